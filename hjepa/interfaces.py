"""The seven slots of the agent, and the parts of a world model and an actor, as abstract base classes. Read this first.

Every implementation is one file `hjepa/modules/<slot>/<kind>.py` with a nested `Config` and a constructor
`(config, spec)`, followed by its sub-slots by name (`encoder=...`, `objective=...`). Modules get tensors and typed
messages, never a dict or the run's config. Shapes: see the legend in `types.py`. Every energy is a cost.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.types import (
    CriticBatch,
    Info,
    LevelBatch,
    LevelSpec,
    Observation,
    Plan,
    Prediction,
    Signals,
    Subgoal,
    Task,
    TensorStruct,
)

Loss = tuple[Tensor, Info]


class Module(nn.Module, ABC):
    """An implementation of a slot."""

    Config: ClassVar[type[ModuleConfig]]


# ------------------------------------------------------------------------------------------------ 1 configurator
class Configurator(Module):
    """Sets every other module for the task (L22 section 3 and 6)."""

    @abstractmethod
    def forward(self, mission: Int[Tensor, "B Q"], top_state: Float[Tensor, "B D"]) -> Task:
        """Configure for a mission. Intrinsic weights are never below a guardrail's floor."""


# ------------------------------------------------------------------------------------------------ 2 perception
class Perception(Module):
    """Estimates the level-0 state from observations (L22 section 3, eq. 14). `carry` is what it remembers."""

    @abstractmethod
    def initial(self, batch: int, device: torch.device) -> Tensor:
        """Carry at the start of an episode, [batch, ...]; uint8 or float32. May have zero width."""

    @abstractmethod
    def forward(
        self,
        observation: Observation,
        previous_action: Int[Tensor, " B"],
        carry: Tensor,
        tokens: Float[Tensor, "B K C"],
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        """One step: the new state and carry. `previous_action` is -1 in the first record of an episode."""

    def observe(
        self,
        observation: Observation,
        previous_action: Int[Tensor, "B T"],
        is_first: Bool[Tensor, "B T"],
        carry: Tensor,
        tokens: Float[Tensor, "B T K C"],
    ) -> tuple[Float[Tensor, "B T D"], Tensor]:
        """A window of steps from `carry`, which is reset where `is_first`; equal to stepping `forward`."""
        states = []
        fresh = self.initial(is_first.shape[0], is_first.device)
        for t in range(is_first.shape[1]):
            mask = is_first[:, t].view(-1, *([1] * (carry.dim() - 1)))
            carry = torch.where(mask, fresh, carry)
            state, carry = self(observation[:, t], previous_action[:, t], carry, tokens[:, t])
            states.append(state)
        return torch.stack(states, 1), carry


# ------------------------------------------------------------------------------------------------ 3 world model
class Encoder(Module):
    """Lifts the state of the level below to this level: s_l = Enc_l(s_{l-1}) (L22 eq. 14)."""

    @abstractmethod
    def forward(
        self, lower_state: Float[Tensor, "*B Dl"], tokens: Float[Tensor, "*B K C"]
    ) -> Float[Tensor, "*B D"]: ...


class ActionEncoder(Module):
    """The choices a level's planner has, and how the one that was made is read off a segment of the level below."""

    num_actions: int

    @abstractmethod
    def table(self) -> Float[Tensor, "A M"]:
        """Embedding of every choice: environment actions at level 0, macro-action codes or a bank above."""

    @abstractmethod
    def infer(
        self, lower_states: Float[Tensor, "*B stride_1 Dl"], lower_actions: Float[Tensor, "*B stride Ml"]
    ) -> tuple[Float[Tensor, "*B M"], Float[Tensor, "*B A"]]:
        """The action embedding behind a segment (with gradient), and its (one-hot or soft) weights over the choices."""

    @abstractmethod
    def loss(
        self, weights: Float[Tensor, "R A"], state: Float[Tensor, "R D"]
    ) -> Loss:
        """Auxiliary loss of inferred weights and the states they start from: code usage, prior over codes."""

    @abstractmethod
    def support(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B A"]:
        """Log-probability of each choice under the data, given the state: what in-support search is bounded by."""


class Predictor(Module):
    """Pred_l(s, a, z): the next state of the level (L22 section 4)."""

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "*B D"],
        action: Float[Tensor, "*B M"],
        latent: Float[Tensor, "*B Z"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B D"]: ...


class Latent(Module):
    """The latent variable z of a JEPA, and its information penalty R(z) (L22 section 4.4-4.5)."""

    dim: int
    """Z; 0 for `none`."""

    @abstractmethod
    def infer(
        self, state: Float[Tensor, "*B D"], action: Float[Tensor, "*B M"], target: Float[Tensor, "*B D"]
    ) -> tuple[Float[Tensor, "*B Z"], Float[Tensor, "*B"]]:
        """Amortised inference: z (with gradient) and its information penalty R(z) in nats."""

    @abstractmethod
    def sample(self, state: Float[Tensor, "*B D"], samples: int) -> Float[Tensor, "*B S Z"]:
        """Draw z from its prior, for planning under uncertainty."""

    @abstractmethod
    def candidates(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B S Z"]:
        """A set of z over which F = min_z E is taken (every code when discrete, the mode and draws when not)."""


class Objective(Module):
    """What makes a JEPA's representation informative and predictable: prediction error and anti-collapse terms."""

    target_network: ClassVar[bool]
    """Whether predictions are compared with the moving-average network's states (else with the online ones)."""

    @abstractmethod
    def forward(
        self,
        states: Float[Tensor, "B T D"],
        predictions: Float[Tensor, "R D"],
        targets: Float[Tensor, "R D"],
        mask: Bool[Tensor, " R"],
    ) -> Loss:
        """`states`: all online states of the batch; row i of `predictions` is compared with row i of `targets` where `mask`."""


class WorldModel(Module):
    """One level's JEPA: encoder, action encoder, predictor, latent variable, objective, and energy readouts."""

    spec: LevelSpec
    encoder: Encoder
    action_encoder: ActionEncoder
    latent: Latent

    @abstractmethod
    def predict(
        self,
        state: Float[Tensor, "*B D"],
        action: Float[Tensor, "*B M"],
        latent: Float[Tensor, "*B Z"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Prediction:
        """One step of this level, differentiable in every argument."""

    @abstractmethod
    def lower(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B Dl"]:
        """A readout of the lower level's state: used where satisfaction is measured in the level's own space."""

    @abstractmethod
    def loss(self, batch: LevelBatch, states: Float[Tensor, "B T D"], targets: Float[Tensor, "B T D"]) -> Loss:
        """JEPA loss over rollouts from every record. `states` are this level's own, online; `targets` the moving average's."""

    @abstractmethod
    def infer_actions(self, batch: LevelBatch) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B T A"]]:
        """The action of this level behind the segment that begins at each record, and its weights over the choices."""

    @abstractmethod
    def monitors(self, states: Float[Tensor, "B T D"]) -> Info:
        """Signs of collapse of this level's states: std, effective rank, std within a window (R19)."""


# ------------------------------------------------------------------------------------------------ 4 intrinsic cost
class Drive(Module):
    """One term of the intrinsic cost. It has no trainable parameter and nothing can change it (L22 section 3.2)."""

    guardrail: ClassVar[bool] = False

    @abstractmethod
    def perceived(self, signals: Signals, memory: "ShortTermMemory", contents: "MemoryState") -> Float[Tensor, " B"]:
        """Energy of a perceived step. `contents` do not hold the present record yet."""

    def predicted(self, readout: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Energy of a predicted step, given the world model's readout of what this drive will say."""
        return readout


class IntrinsicCost(Module):
    """IC: a fixed set of drives, weighed linearly by the configurator."""

    names: tuple[str, ...]

    @abstractmethod
    def perceived(
        self, signals: Signals, memory: "ShortTermMemory", contents: "MemoryState"
    ) -> Float[Tensor, "B U"]:
        """Unweighted energies of a perceived step, one a drive."""

    @abstractmethod
    def predicted(self, readouts: Float[Tensor, "*B U"]) -> Float[Tensor, "*B U"]:
        """Unweighted energies of a predicted step."""

    @abstractmethod
    def clamp(self, weights: Float[Tensor, "*B U"]) -> Float[Tensor, "*B U"]:
        """Raise the weights of guardrails to their floors, and negative weights to 0."""


# ------------------------------------------------------------------------------------------------ 5 critic
class Critic(Module):
    """TC: the expected discounted future intrinsic energy of a state, or its distance to a goal (L22 section 3.3)."""

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "*B D"],
        goal: Float[Tensor, "*B D"],
        has_goal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B"]:
        """Energy-to-go, in units of energy. A critic that has no use for the goal ignores it."""

    def choices(
        self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]
    ) -> Float[Tensor, "*B A"] | None:
        """Energy-to-go after each of the level's choices, from a critic that tells them apart; else None."""
        return None

    @abstractmethod
    def loss(self, batch: CriticBatch, target: "Critic") -> Loss:
        """Loss on triples read from the store; `target` is the moving average of this critic."""

    @abstractmethod
    def imagined_loss(
        self, predicted: Float[Tensor, "R D"], actual: Float[Tensor, "R D"], tokens: Float[Tensor, "R K C"]
    ) -> Loss:
        """Make the critic say of predicted states what it says (detached) of the actual ones."""


# ------------------------------------------------------------------------------------------------ 6 short-term memory
@dataclass(frozen=True)
class MemoryEntry(TensorStruct):
    """A triple (time, state, energy) with what belongs to it (L22 section 3.3, Fig. 7)."""

    time: Int[Tensor, " B"]
    """Environment steps since the episode began."""
    state: Float[Tensor, "B D"]
    intrinsic: Float[Tensor, " B"]
    critic: Float[Tensor, " B"]
    action: Int[Tensor, " B"]
    imagined: Bool[Tensor, " B"]
    code: Int[Tensor, " B"]
    """Hash of the observation, for exact counts."""


@dataclass(frozen=True)
class MemoryState(TensorStruct):
    """Contents of the memory: `slots` of R entries a row, and how often each observation was ever seen."""

    keys: Float[Tensor, "B R D"]
    values: Float[Tensor, "B R D"]
    time: Int[Tensor, "B R"]
    """-1 where the place is empty."""
    intrinsic: Float[Tensor, "B R"]
    critic: Float[Tensor, "B R"]
    action: Int[Tensor, "B R"]
    imagined: Bool[Tensor, "B R"]
    code: Int[Tensor, "B R"]
    written: Int[Tensor, " B"]
    """Entries written since the episode began."""
    visits: Int[Tensor, " bins"]
    """Lifetime count of observations by hash bin, shared by the rows."""


class ShortTermMemory(Module):
    """Holds (time, state, energy, action); soft, differentiable read by state (L22 eq. 15-20). `MemoryState` is explicit."""

    capacity: int

    @abstractmethod
    def initial(self, batch: int, device: torch.device) -> MemoryState: ...

    @abstractmethod
    def reset(self, contents: MemoryState, rows: Bool[Tensor, " B"]) -> MemoryState:
        """Forget the episode in `rows`; lifetime counts stay."""

    @abstractmethod
    def write(self, contents: MemoryState, entry: MemoryEntry) -> MemoryState:
        """Write one entry a row; differentiable in entry.state."""

    @abstractmethod
    def read(self, contents: MemoryState, query: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Soft read by state; zero where nothing is near (eq. 15-17)."""

    @abstractmethod
    def at(self, contents: MemoryState, time: Int[Tensor, " B"]) -> tuple[MemoryEntry, Bool[Tensor, " B"]]:
        """The entry written at a time, and whether there is one."""

    @abstractmethod
    def nearest(
        self, contents: MemoryState, state: Float[Tensor, "B D"]
    ) -> tuple[MemoryEntry, Bool[Tensor, " B"]]:
        """The entry whose state is nearest (Euclidean), and whether there is one."""

    @abstractmethod
    def count(self, contents: MemoryState, code: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many entries of this episode have this observation code."""

    @abstractmethod
    def lifetime(self, contents: MemoryState, code: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many entries of all episodes fell in this code's bin."""


# ------------------------------------------------------------------------------------------------ 7 actor
@dataclass(frozen=True)
class Node(TensorStruct):
    """Partial plans during a search; N of them a row, S samples of z each."""

    state: Float[Tensor, "B N S D"]
    energy: Float[Tensor, "B N S"]
    """Energy so far, discounted."""
    log_discount: Float[Tensor, "B N S"]
    """Log of discount times probability that the episode goes on."""
    estimates: Float[Tensor, "B N S"] | None = None
    """Sum over the steps taken of what the critic said there of the whole plan's energy; None without such a critic."""
    depth: int = 0
    """Steps taken."""


class PlanningProblem(ABC):
    """What a planner sees of cost, world model and subgoal. Built by the agent (or by a test around a table)."""

    batch: int
    num_actions: int
    horizon: int
    device: torch.device

    @abstractmethod
    def root(self) -> Node:
        """N = 1."""

    @abstractmethod
    def support(self, node: Node) -> Float[Tensor, "B N A"]:
        """Log prior of each choice; -inf where it is out of the data's support and must not be chosen."""

    @abstractmethod
    def step(self, node: Node, weights: Float[Tensor, "B N A"]) -> Node:
        """Take one choice (one-hot weights) or a mixture of choices (relaxed); differentiable."""

    @abstractmethod
    def score(self, node: Node) -> Float[Tensor, "B N"]:
        """Total energy of a plan that ends here: energy so far, critic and subgoal at the end, risk over samples of z."""


@dataclass(frozen=True)
class Request(TensorStruct):
    """What is asked of the actor at this step, a row an environment."""

    mode: Int[Tensor, " B"]
    """1, 2, or 0 for the actor's own choice between them."""
    is_first: Bool[Tensor, " B"]
    surprise: Float[Tensor, " B"]
    """Relative prediction error of the last step; 1 is typical."""
    injected: tuple[Tensor | None, ...]
    """For each level, subgoals [B, G] that replace its own (an oracle's, for diagnosis), or None."""


@dataclass(frozen=True)
class Choice:
    """What the actor decided: an environment action, and each level's subgoal and plan."""

    action: Int[Tensor, " B"]
    mode: Int[Tensor, " B"]
    subgoals: tuple[Subgoal, ...]
    """For each level, the subgoal it is under; the top level's is inactive."""
    distances: tuple[Tensor, ...]
    """For each level, [B] distance to its subgoal on arriving here; nan where none was active or asked for."""
    reasons: tuple[Tensor, ...]
    """For each level, [B] index into REPLAN_REASONS."""
    plans: tuple[Plan | None, ...]
    """For each level, the plan made now over all rows (rows that did not plan hold -1 and nan), or None."""
    evaluations: Int[Tensor, ""]


class Planner(Module):
    """Finds a low-energy plan of `problem.horizon` choices (L22 section 3.1.2 step 5). One a level."""

    @abstractmethod
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """`warm_start`: log-probabilities to begin from (the policy unrolled through the world model), or None."""


class Policy(Module):
    """The amortised actor of one level: mode 1, and warm start of mode 2 (L22 section 3.1.1 and 3.1.3)."""

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "*B D"],
        subgoal: Float[Tensor, "*B G"],
        has_subgoal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> tuple[Float[Tensor, "*B A"], Float[Tensor, "*B D"]]:
        """Logits over the level's choices, and the state to reach next (a level above 0 hands it down as the subgoal)."""

    @abstractmethod
    def loss(
        self,
        state: Float[Tensor, "B D"],
        subgoal: Float[Tensor, "B G"],
        has_subgoal: Bool[Tensor, " B"],
        tokens: Float[Tensor, "B K C"],
        plan: Plan,
    ) -> Loss:
        """Distillation: divergence between the mode-2 plan and the policy."""


@dataclass(frozen=True)
class World:
    """What the actor plans with, level by level."""

    world_models: Sequence[WorldModel]
    critics: Sequence[Critic]
    intrinsic_cost: IntrinsicCost


class Actor(Module):
    """Plans top-down in mode 2, reacts in mode 1 (L22 section 5); owns every level's planner and policy."""

    planners: nn.ModuleList
    policies: nn.ModuleList

    @abstractmethod
    def decide(
        self,
        world: World,
        states: tuple[Tensor, ...],
        subgoals: tuple[Subgoal, ...],
        task: Task,
        request: "Request",
    ) -> "Choice":
        """One decision for a batch. Rows in mode 1 touch neither `world` nor any cost."""

    @abstractmethod
    def calibrate(self, lifted: Float[Tensor, " L-1"], own: Float[Tensor, " L-1"]) -> None:
        """Tell it how far states typically move over one step of the level above: there, and in the level's own space."""

    @abstractmethod
    def loss(self, world: World, states: tuple[Tensor, ...], task: Task) -> Loss:
        """Distil mode-2 plans from `states` (one [B, D] a level) into the policies; gradients reach the policies only."""
