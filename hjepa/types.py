"""Typed messages that pass between the modules, and the shape legend of the whole package.

Shape legend (used in every docstring and jaxtyping annotation)::

    B    batch (environments, or windows of a training batch)
    T    time: consecutive environment records in a window
    W V  columns and rows of the partial view (7 x 7 in MiniGrid); image is indexed [column, row, channel]
    Q    words of the mission, padded with 0
    L    levels; level 0 is the lowest (L22 calls it level 1) and acts in the environment
    D    width of a level's state s (`levels.N.dim`);  Dl: width of the level below
    A    number of choices a level's planner has (environment actions, macro-action codes)
    M    width of a level's action embedding (`levels.N.action_dim`);  Ml: of the level below
    Z    width of the latent variable z;  S: samples of z
    N    candidate plans;  H: steps of a plan (`levels.N.horizon`)
    K C  task tokens and their width (C = 0: the configurator emits none)
    U    drives of the intrinsic cost

Energies are costs: lower is better everywhere; a reward of +1 is an energy of -1. Time is counted in environment steps
unless a name says otherwise. Level numbers are 0-based in code, config keys, TensorBoard tags and docs.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Info = dict[str, Tensor]
"""Named scalars of a loss, detached, in the order they are logged. One entry is one TensorBoard tag."""

SubgoalSource = Literal["none", "plan", "policy", "oracle"]


class TensorStruct:
    """Mixin for frozen dataclasses whose fields are tensors or nested structs: map, index and move them together."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply `function` to every tensor, and return a new struct; fields that are not tensors are kept."""
        changed = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
            elif isinstance(value, TensorStruct):
                changed[field.name] = value.map(function)
            elif isinstance(value, tuple) and value and isinstance(value[0], TensorStruct):
                changed[field.name] = tuple(item.map(function) for item in value)
        return replace(self, **changed)  # type: ignore[type-var]

    def join(self, other: Self) -> Self:
        """Rows of `other` after those of this struct; what is not a tensor is this one's."""
        tensors = iter(other.tensors())
        return self.map(lambda tensor: torch.cat((tensor, next(tensors))))

    def tensors(self) -> list[Tensor]:
        """Every tensor, in the order of `map`."""
        found: list[Tensor] = []

        def collect(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.map(collect)
        return found

    def __getitem__(self, index: "int | slice | Tensor | tuple[slice | int, ...]") -> Self:
        return self.map(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> Self:
        """Move every tensor to `device`."""
        return self.map(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class EnvSpec:
    """What the agent is told of an environment before it starts; nothing of its inner state."""

    id: str
    num_actions: int
    view: tuple[int, int]
    """Columns and rows of the partial view."""
    max_steps: int
    """Time limit of an episode, in environment steps."""


@dataclass(frozen=True)
class LevelSpec:
    """Widths and spans of one level; what a level's modules are built from."""

    index: int
    dim: int
    action_dim: int
    lower_dim: int
    """Width of the state below (level 0: of perception, which equals `dim`)."""
    lower_action_dim: int
    """Width of the action embedding below (level 0: the number of environment actions)."""
    stride: int
    """Steps of the level below in one step of this level (level 0: 1)."""
    span: int
    """Environment steps in one step of this level: the product of the strides up to here."""
    horizon: int
    """Steps of this level that its planner looks ahead."""
    num_env_actions: int
    num_actions: int
    """A: choices of this level's planner (0 while its action encoder is not built yet)."""
    upper_dim: int
    """Width of the subgoals set for this level: `dim` of the level above (top level: its own `dim`, the task's
    goal)."""
    num_drives: int
    token_dim: int
    discount: float
    """Discount per environment step; one step of this level discounts by `discount ** span`."""


@dataclass(frozen=True)
class AgentSpec:
    """What the modules that serve the whole agent are built from."""

    env: EnvSpec
    levels: tuple[LevelSpec, ...]
    drives: tuple[str, ...]
    guardrails: tuple[bool, ...]
    """Whether each drive is a guardrail, whose weight the configurator may not lower below its floor."""
    token_dim: int
    discount: float


@dataclass(frozen=True)
class Observation(TensorStruct):
    """What the environment shows: the default partial view and the mission. `*B` may be [B] or [B, T]."""

    image: UInt8[Tensor, "*B W V 3"]
    """Object, colour and state of each cell in view; the agent stands in the last row, middle column, looking to row
    0."""
    mission: Int[Tensor, "*B Q"]
    """Word numbers of the instruction (`envs.text`), 0 is padding."""


@dataclass(frozen=True)
class Signals(TensorStruct):
    """What the intrinsic cost may look at when it judges a perceived step (never the environment's inner state)."""

    reward: Float[Tensor, " B"]
    observation: Observation
    previous_action: Int[Tensor, " B"]
    """The action that led here, -1 in the first record of an episode."""
    is_first: Bool[Tensor, " B"]
    discovered: Float[Tensor, " B"]
    """Cells that perception now remembers and did not before, as a share of the view; 0 where it keeps no map."""
    state: Float[Tensor, "B D"]
    """Level-0 state, detached."""
    goal: Float[Tensor, "B D"]
    """Goal in level 0's space; only looked at where `has_goal`."""
    has_goal: Bool[Tensor, " B"]


@dataclass(frozen=True)
class Task(TensorStruct):
    """The configurator's message: how every other module is set for the present task."""

    tokens: Float[Tensor, "B K C"]
    """Modulate perception, world models and critics; K = C = 0 with a configurator that emits none."""
    intrinsic_weights: Float[Tensor, "B U"]
    """u of C = sum u IC + sum v TC; a guardrail's is never below its floor."""
    critic_weights: Float[Tensor, "B L"]
    """v: the weight of each level's critic."""
    goal: Float[Tensor, "B D"]
    """Goal in the space of `goal_level`; only looked at where `has_goal`."""
    has_goal: Bool[Tensor, " B"]
    goal_level: int = -1
    """The level that plans toward the goal, the highest that acts; -1: the top."""

    def aimed_level(self, levels: int) -> int:
        """The level that plans toward the goal, of an agent of so many."""
        return self.goal_level if self.goal_level >= 0 else levels - 1


@dataclass(frozen=True)
class Subgoal(TensorStruct):
    """A latent target that a level sets for the level below, and until when.

    `latent` lives in the space of the level that set it (index + 1 for a subgoal of level `index`).
    """

    latent: Float[Tensor, "B D"]
    remaining: Int[Tensor, " B"]
    """Environment steps left until the deadline."""
    active: Bool[Tensor, " B"]
    """False where there is no subgoal (the lower level then follows its own energies alone)."""


@dataclass(frozen=True)
class Prediction(TensorStruct):
    """One step of a world model (`*B` any batch shape)."""

    state: Float[Tensor, "*B D"]
    energies: Float[Tensor, "*B U"]
    """Energy readout: what each drive will say, discounted and summed over the step's span. Unweighted."""
    log_continue: Float[Tensor, "*B"]
    """Log-probability that the episode goes on through the step."""


@dataclass(frozen=True)
class Plan(TensorStruct):
    """What a planner found. Alternatives are kept for the joint mode and for diagnosis."""

    actions: Int[Tensor, "B H"]
    """Chosen indices into the level's action table."""
    states: Float[Tensor, "B H D"]
    """Predicted states along the chosen plan, mean over samples of z; states[:, 0] is the subgoal for the level
    below."""
    energy: Float[Tensor, " B"]
    """Total energy of the chosen plan."""
    first_energies: Float[Tensor, "B A"]
    """Lowest total energy found among plans that begin with each choice (+inf where none was tried): what
    distillation imitates."""
    evaluations: Int[Tensor, ""]
    """Predictor evaluations spent, summed over batch rows."""


@dataclass(frozen=True)
class Spans(TensorStruct):
    """For every record t of a window: the step of a level that begins there (from `hjepa.data.spans`)."""

    end: Int[Tensor, "B T"]
    """Record index where the step ends: t + span, or the terminal record if that comes first."""
    reaches: Bool[Tensor, "B T"]
    """The step stays inside the window and the episode: its end state is a valid target."""
    ended: Bool[Tensor, "B T"]
    """The episode terminated within the step (time-outs do not count)."""
    valid: Bool[Tensor, "B T"]
    """reaches or ended: the energy and continue readouts have a target."""
    energies: Float[Tensor, "B T U"]
    """Each drive's energy over the step: sum over i of discount^i times the energy at record t + 1 + i."""


@dataclass(frozen=True)
class LevelBatch(TensorStruct):
    """One level's share of a training batch."""

    lower_states: Float[Tensor, "B T Dl"]
    """States of the level below with gradient (level 0: perception's)."""
    lower_targets: Float[Tensor, "B T Dl"]
    """The same from the target networks (moving averages), without gradient."""
    lower_actions: Float[Tensor, "B T Ml"]
    """Embedding of the action of the level below that begins at t (level 0: one-hot environment action, zero after
    the last)."""
    spans: Spans
    tokens: Float[Tensor, "B T K C"]


@dataclass(frozen=True)
class Walked(TensorStruct):
    """What a level did at each record and where the agent then came to, for learning in hindsight.

    R rows, in the order of the states that go with them.
    """

    choice: Int[Tensor, " R"]
    """The level's choice that begins at the record."""
    goal: Float[Tensor, "R G"]
    """A state of the level above, at most one of its steps later; zeros at the highest level."""
    reached: Bool[Tensor, " R"]
    """Whether the episode goes as far; what stands in other rows means nothing."""
    next: Float[Tensor, "R D"]
    """The level's state after the choice, one of its steps later."""
    arrived: Bool[Tensor, " R"]
    """Whether the episode goes as far as that."""
    advantage: Float[Tensor, " R"]
    """By how much less energy was met, and is to come, than the level's critic expected at the record; positive is
    better than expected. In units of energy; 0 from critics that do not tell."""


@dataclass(frozen=True)
class CriticBatch(TensorStruct):
    """What a critic learns from: triples (time, state, energy) read back from the replay store, never the live
    environment."""

    states: Float[Tensor, "B T D"]
    """With gradient where the critic may shape the encoder."""
    target_states: Float[Tensor, "B T D"]
    choices: Int[Tensor, "B T"]
    """The level's choice that begins at t: at level 0 the environment action (-1 where none)."""
    energies: Float[Tensor, "B T"]
    """Weighted intrinsic energy met in the step that begins at t, at this level's time scale."""
    next_index: Int[Tensor, "B T"]
    """Record where the step of this level that begins at t ends (`Spans.end`)."""
    reaches: Bool[Tensor, "B T"]
    ended: Bool[Tensor, "B T"]
    tokens: Float[Tensor, "B T K C"]


@dataclass(frozen=True)
class Trajectory(TensorStruct):
    """Windows drawn from the episode store. A window may cross episodes; `is_first` says where."""

    observation: Observation
    previous_action: Int[Tensor, "B T"]
    energies: Float[Tensor, "B T U"]
    """Each drive's energy as perceived on arriving at the record, unweighted."""
    is_first: Bool[Tensor, "B T"]
    terminated: Bool[Tensor, "B T"]
    truncated: Bool[Tensor, "B T"]
    carries: UInt8[Tensor, "B T *S"] | Float[Tensor, "B T *S"]
    """Perception's carry from before each record, as it was when the record was collected."""


REPLAN_REASONS = ("kept", "first", "deadline", "reached", "surprise", "above", "injected")
"""Why a level got a new subgoal at this step, by number in `LevelDecision.reason`; 0: it kept the one it had."""


@dataclass(frozen=True)
class LevelDecision(TensorStruct):
    """What happened at one level during one decision; for logs, GIFs and diagnosis."""

    state: Float[Tensor, "B D"]
    subgoal: Subgoal
    """Set for this level by the level above (the top level's is inactive)."""
    distance: Float[Tensor, " B"]
    """Distance to the subgoal, relative to the typical displacement over one step of the level above; nan where
    none."""
    reason: Int[Tensor, " B"]
    """Index into REPLAN_REASONS for this level's subgoal."""
    actions: Int[Tensor, "B H"]
    """This level's current plan (-1 where mode 1 acted without one)."""
    states: Float[Tensor, "B H D"]
    """Predicted states along it (nan where mode 1)."""
    plan_energy: Float[Tensor, " B"]
    value: Float[Tensor, " B"]
    """The critic's energy-to-go of the state (computed after acting)."""


@dataclass(frozen=True)
class Decision:
    """One decision of the agent for a batch of environments."""

    action: Int[Tensor, " B"]
    mode: Int[Tensor, " B"]
    """1 or 2: how each row was decided."""
    levels: tuple[LevelDecision, ...]
    energies: Float[Tensor, "B U"]
    """Unweighted intrinsic energies perceived on arriving here."""
    intrinsic_weights: Float[Tensor, "B U"]
    surprise: Float[Tensor, " B"]
    """Level-0 prediction error of the last step relative to its running mean; 1 is typical."""
    evaluations: Int[Tensor, ""]
    """Predictor evaluations spent on this decision, summed over the batch."""


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
    situation: Int[Tensor, " B"]
    """Hash of the observation and of what perception remembered, if that is exact (`cost.situation`)."""


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
    situation: Int[Tensor, "B R"]
    written: Int[Tensor, " B"]
    """Entries written since the episode began."""
    visits: Int[Tensor, " bins"]
    """Episodes in which an observation of each hash bin was met, over the run's life; shared by the rows."""
    interactions: Int[Tensor, " kinds"]
    """Episodes in which each `cost.interaction` was done, over the run's life; shared by the rows."""
