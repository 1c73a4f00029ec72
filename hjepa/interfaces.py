"""The seven slots of the agent as abstract base classes. Read this first; `parts.py` has the slots inside them.

Every implementation is one file `hjepa/modules/<slot>/<kind>.py` with a nested `Config` and a constructor
`(config, spec)`, followed by its sub-slots by name (`encoder=...`, `objective=...`). Modules get tensors and typed
messages, never a dict or the run's config. Shapes: see the legend in `types.py`. Every energy is a cost.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hjepa.parts import (
    ActionEncoder,
    Encoder,
    Latent,
    Loss,
    Module,
    Node,
    Objective,
    Planner,
    PlanningProblem,
    Policy,
    Predictor,
)
from hjepa.types import (
    CriticBatch,
    Info,
    LevelBatch,
    LevelSpec,
    MemoryEntry,
    MemoryState,
    Observation,
    Plan,
    Prediction,
    Signals,
    Subgoal,
    Task,
    TensorStruct,
    Trajectory,
    Walked,
)

__all__ = [
    "ActionEncoder",
    "Actor",
    "Choice",
    "Configurator",
    "Critic",
    "Drive",
    "Encoder",
    "IntrinsicCost",
    "Latent",
    "Loss",
    "MemoryEntry",
    "MemoryState",
    "Module",
    "Node",
    "Objective",
    "Perception",
    "Planner",
    "PlanningProblem",
    "Policy",
    "Predictor",
    "Request",
    "ShortTermMemory",
    "World",
    "WorldModel",
]


# ------------------------------------------------------------------------------------------------ 1 configurator
class Configurator(Module):
    """Sets every other module for the task (L22 section 3 and 6)."""

    competence: Tensor
    """Running share of training episodes that succeeded: the better the agent, the less there is to explore for."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("competence", torch.zeros(()))

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
        carries: Tensor,
        tokens: Float[Tensor, "B T K C"],
    ) -> Float[Tensor, "B T D"]:
        """States of a window, equal to stepping `forward` from the first of `carries`, which is reset where `is_first`.

        `carries` [B, T, ...] is what was brought to each record when it was collected. A kind whose carry holds nothing
        learned may start from each of them at once; for others all but the first are out of date.
        """
        states, carry = [], carries[:, 0]
        fresh = self.initial(is_first.shape[0], is_first.device)
        for t in range(is_first.shape[1]):
            mask = is_first[:, t].view(-1, *([1] * (carry.dim() - 1)))
            carry = torch.where(mask, fresh, carry)
            state, carry = self(observation[:, t], previous_action[:, t], carry, tokens[:, t])
            states.append(state)
        return torch.stack(states, 1)

    def discovered(self, before: Tensor, after: Tensor) -> Float[Tensor, " B"]:
        """Cells that the carry `after` a step holds and the one `before` it did not, as a share of the view; 0 for a
        kind that keeps no map."""
        return torch.zeros(len(after), device=after.device)

    def mirror(self, trajectory: Trajectory) -> Trajectory:
        """The windows as they would have been in the mirror image of the world, for a kind that knows what its carry
        means; others give them back as they are."""
        return trajectory


# ------------------------------------------------------------------------------------------------ 3 world model
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
        """JEPA loss over rollouts from every record. `states` are this level's own, online; `targets` the moving
        average's."""

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
    def perceived(self, signals: Signals, memory: "ShortTermMemory", contents: "MemoryState") -> Float[Tensor, "B U"]:
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

    def choices(self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B A"] | None:
        """Energy-to-go after each of the level's choices, from a critic that tells them apart; else None."""
        return None

    def advantages(self, batch: CriticBatch, target: "Critic") -> Float[Tensor, "B T"]:
        """By how much less energy than expected each record was followed by, in units of energy; 0 for whoever does
        not tell. `target` is the moving average of this critic."""
        return torch.zeros_like(batch.energies)

    def after_end(self) -> Float[Tensor, ""]:
        """Energy-to-go from the end of an episode; nothing, but for critics to whom life goes on."""
        return torch.zeros(())

    @abstractmethod
    def loss(self, batch: CriticBatch, target: "Critic") -> Loss:
        """Loss on triples read from the store; `target` is the moving average of this critic."""

    @abstractmethod
    def imagined_loss(
        self, predicted: Float[Tensor, "R D"], actual: Float[Tensor, "R D"], tokens: Float[Tensor, "R K C"]
    ) -> Loss:
        """Make the critic say of predicted states what it says (detached) of the actual ones."""


# ------------------------------------------------------------------------------------------------ 6 short-term memory
class ShortTermMemory(Module):
    """Holds (time, state, energy, action); soft, differentiable read by state (L22 eq. 15-20). `MemoryState` is
    explicit."""

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
    def nearest(self, contents: MemoryState, state: Float[Tensor, "B D"]) -> tuple[MemoryEntry, Bool[Tensor, " B"]]:
        """The entry whose state is nearest (Euclidean), and whether there is one."""

    @abstractmethod
    def count(self, contents: MemoryState, code: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many entries of this episode have this observation code."""

    @abstractmethod
    def lifetime(self, contents: MemoryState, code: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """In how many episodes an entry fell in this code's bin (as far back in each as `count` goes)."""

    @abstractmethod
    def interacted(
        self, contents: MemoryState, interaction: Int[Tensor, " B"]
    ) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
        """How often this episode saw this `cost.interaction`, and how many episodes did."""

    @abstractmethod
    def tried(self, contents: MemoryState, situation: Int[Tensor, " B"], num_actions: int) -> Int[Tensor, "B A"]:
        """How often each action was taken in this situation of this episode."""

    @abstractmethod
    def futile(
        self, contents: MemoryState, code: Int[Tensor, " B"], situation: Int[Tensor, " B"], num_actions: int
    ) -> Int[Tensor, "B A"]:
        """How often in this episode each action was taken with the same ahead and in hand as now (`cost.context`), and
        left the situation as it was. `code` and `situation` are the present ones, not yet written."""


# ------------------------------------------------------------------------------------------------ 7 actor
@dataclass(frozen=True)
class Request(TensorStruct):
    """What is asked of the actor at this step, a row an environment."""

    mode: Int[Tensor, " B"]
    """1, 2, or 0 for the actor's own choice between them."""
    is_first: Bool[Tensor, " B"]
    surprise: Float[Tensor, " B"]
    """Relative prediction error of the last step; 1 is typical."""
    tried: Int[Tensor, "B A"]
    """How often each environment action was taken in this same situation of this episode."""
    futile: Int[Tensor, "B A"]
    """How often it changed nothing in this episode, with the same ahead and in hand as now."""
    visited: Float[Tensor, "B R D0"]
    """Level-0 states of this episode, as far as memory holds them; what stands in other places means nothing."""
    remembered: Bool[Tensor, "B R"]
    """The places of `visited` that hold one."""
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


@dataclass(frozen=True)
class World:
    """What the actor plans with, level by level."""

    world_models: Sequence[WorldModel]
    critics: Sequence[Critic]
    intrinsic_cost: IntrinsicCost

    def lift(self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]) -> tuple[Tensor, ...]:
        """The cascade s_l = Enc_l(s_{l-1}), lowest first (L22 eq. 14)."""
        states = [state]
        for model in self.world_models[1:]:
            states.append(model.encoder(states[-1], tokens))
        return tuple(states)


class Actor(Module):
    """Plans top-down in mode 2, reacts in mode 1 (L22 section 5); owns every level's planner and policy."""

    planners: nn.ModuleList
    policies: nn.ModuleList
    learns_in_hindsight: bool = False
    """Whether `loss` looks at what was walked."""

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
        """Tell it how far states typically move over one step of the level above: there, and in the level's own space;
        nan where no step was seen, which says nothing."""

    @abstractmethod
    def loss(self, world: World, states: tuple[Tensor, ...], task: Task, walked: tuple[Walked, ...]) -> Loss:
        """Distil mode-2 plans from `states` (one [B, D] a level) into the policies, and learn from what was `walked`
        there (a level each; none for whoever does not learn in hindsight); gradients reach the actor only."""
