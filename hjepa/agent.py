"""The agent: the only place that knows how the seven modules are wired. Acting is here, learning in `learning.py`."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from hjepa.cost import intrinsic_energy, observation_code, situation
from hjepa.interfaces import (
    Actor,
    Choice,
    Configurator,
    Critic,
    IntrinsicCost,
    MemoryEntry,
    MemoryState,
    Perception,
    Request,
    ShortTermMemory,
    World,
    WorldModel,
)
from hjepa.nets import update_average
from hjepa.types import AgentSpec, Decision, LevelDecision, Observation, Signals, Subgoal, Task, TensorStruct

Mode = Literal[1, 2, "auto"]
Network = TypeVar("Network", bound=nn.Module)


class Percept(Protocol):
    """One record of a batch of environments (`envs.vector.Record` is one)."""

    @property
    def image(self) -> UInt8[Tensor, "B W V 3"]: ...

    @property
    def mission(self) -> Int[Tensor, "B Q"]: ...

    @property
    def reward(self) -> Float[Tensor, " B"]: ...

    @property
    def is_first(self) -> Bool[Tensor, " B"]: ...

    @property
    def previous_action(self) -> Int[Tensor, " B"]: ...


@dataclass(frozen=True)
class AgentState(TensorStruct):
    """What the agent carries from one step to the next, a row an environment."""

    carry: Tensor
    """Perception's carry."""
    memory: MemoryState
    predicted: Float[Tensor, "B D"]
    """The level-0 state that was predicted for now (mode 1's optional step 5, L22 section 3.1.1)."""
    time: Int[Tensor, " B"]
    subgoals: tuple[Subgoal, ...]


class Agent(nn.Module):
    """Seven modules and the moving averages that training compares with."""

    surprise_mean: Tensor

    def __init__(
        self,
        spec: AgentSpec,
        configurator: Configurator,
        perception: Perception,
        world_models: list[WorldModel],
        intrinsic_cost: IntrinsicCost,
        critics: list[Critic],
        memory: ShortTermMemory,
        actor: Actor,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.configurator, self.perception = configurator, perception
        self.world_models, self.critics = nn.ModuleList(world_models), nn.ModuleList(critics)
        self.intrinsic_cost, self.memory, self.actor = intrinsic_cost, memory, actor
        self.target_perception = frozen_copy(perception)
        self.target_encoders = frozen_copy(nn.ModuleList([model.encoder for model in world_models]))
        self.target_critics = frozen_copy(self.critics)
        self.register_buffer("surprise_mean", torch.ones(()))

    @property
    def world(self) -> World:
        """What the actor plans with."""
        return World(list(self.world_models), list(self.critics), self.intrinsic_cost)  # type: ignore[arg-type]

    def update_targets(self, rate: float) -> None:
        """Move the averages toward the online networks by `rate`."""
        update_average(self.target_perception, self.perception, rate)
        for average, model in zip(self.target_encoders, self.world_models, strict=True):
            update_average(average, model.encoder, rate)  # type: ignore[arg-type]
        update_average(self.target_critics, self.critics, rate)

    # ---------------------------------------------------------------------------------------------- acting
    def initial(self, batch: int, device: torch.device) -> AgentState:
        """State before the first step of `batch` environments."""
        rows = torch.zeros(batch, dtype=torch.int64, device=device)
        subgoals = tuple(
            Subgoal(torch.zeros(batch, level.upper_dim, device=device), rows, rows.bool()) for level in self.spec.levels
        )
        return AgentState(
            self.perception.initial(batch, device),
            self.memory.initial(batch, device),
            torch.zeros(batch, self.spec.levels[0].dim, device=device),
            rows,
            subgoals,
        )

    def lift(self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]) -> tuple[Tensor, ...]:
        """A level-0 state in the space of every level, lowest first."""
        return self.world.lift(state, tokens)

    @torch.no_grad()
    def act(
        self,
        record: Percept,
        state: AgentState,
        mode: Mode = 2,
        epsilon: float = 0.0,
        levels: int | None = None,
        injected: dict[int, Tensor] | None = None,
        goal: Float[Tensor, "B D"] | None = None,
    ) -> tuple[Decision, AgentState]:
        """One decision for each environment (L22 section 3.1.1 and 3.1.2).

        `epsilon` is the share of random actions; `levels` acts with the lowest levels only; `injected[l]` [B, G]
        replaces
        the subgoals set for level l (an oracle's, for diagnosis); `goal`, a level-0 state such as `goal_state` gives,
        is what the critic of the highest acting level is to measure the way to.
        """
        task = self.configure(record.mission)
        if goal is not None:
            task = self.toward(goal, task, levels)
        observation = Observation(record.image, record.mission)
        before = self.carried(state.carry, record.is_first)
        lowest, carry = self.perception(observation, record.previous_action, before, task.tokens)
        memory = self.memory.reset(state.memory, record.is_first)
        code = observation_code(record.image)
        here = situation(code, carry)
        states = self.lift(lowest, task.tokens)[:levels]
        surprise = self._surprise(lowest, state.predicted, record.is_first)
        request = Request(
            torch.full_like(record.previous_action, 0 if mode == "auto" else mode),
            record.is_first,
            surprise,
            self.memory.tried(memory, here, self.spec.env.num_actions),
            self.memory.futile(memory, code, here, self.spec.env.num_actions),
            memory.keys,
            memory.time >= 0,
            tuple((injected or {}).get(level) for level in range(len(states))),
        )
        subgoals = tuple(tick(subgoal, record.is_first) for subgoal in state.subgoals[: len(states)])
        choice = self.actor.decide(self.world, states, subgoals, task, request)
        choice = replace(choice, action=explore(choice.action, epsilon, self.spec.env.num_actions))
        # Mode 1 has acted by now: cost, memory and the prediction of what comes next do not steer this decision.
        discovered = self.perception.discovered(before, carry).masked_fill(record.is_first, 0.0)
        energies = self._perceived_energies(observation, record, lowest, discovered, task, memory)
        values = self.values(states, task)
        time = torch.where(record.is_first, 0, state.time + 1)
        intrinsic = intrinsic_energy(energies, task.intrinsic_weights)
        imagined = torch.zeros_like(record.is_first)
        entry = MemoryEntry(time, lowest, intrinsic, values[0], choice.action, imagined, code, here)
        memory = self.memory.write(memory, entry)
        after = AgentState(
            carry,
            memory,
            self._predict(lowest, choice.action, task),
            time,
            choice.subgoals + state.subgoals[len(states) :],
        )
        return self._decision(choice, states, values, energies, task, surprise), after

    def configure(self, mission: Int[Tensor, "B Q"]) -> Task:
        """The configurator's message for a batch of missions."""
        top = self.spec.levels[-1]
        return self.configurator(mission, torch.zeros(len(mission), top.dim, device=mission.device))

    def goal_state(self, goal: Observation) -> Float[Tensor, "B D"]:
        """Level-0 state of an observation to be brought about, perceived as if an episode began with it."""
        task = self.configure(goal.mission)
        rows = len(goal.mission)
        before = torch.full((rows,), -1, device=goal.mission.device)
        return self.perception(goal, before, self.perception.initial(rows, before.device), task.tokens)[0]

    def toward(self, goal: Float[Tensor, "B D"], task: Task, levels: int | None = None) -> Task:
        """The task of bringing about `goal`, a level-0 state, by the lowest `levels` (all by default)."""
        top = (len(self.spec.levels) if levels is None else levels) - 1
        lifted = self.lift(goal, task.tokens)[top]
        return replace(task, goal=lifted, has_goal=torch.ones_like(task.has_goal), goal_level=top)

    def perceive(
        self, observation: Observation, record: Percept, carry: Tensor, task: Task
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        """Level-0 state and new carry, which starts anew where an episode does."""
        carry = self.carried(carry, record.is_first)
        return self.perception(observation, record.previous_action, carry, task.tokens)

    def carried(self, carry: Tensor, is_first: Bool[Tensor, " B"]) -> Tensor:
        """Perception's carry, anew where an episode begins."""
        first = is_first.view(-1, *([1] * (carry.dim() - 1)))
        return torch.where(first, self.perception.initial(len(is_first), is_first.device), carry)

    def values(self, states: tuple[Tensor, ...], task: Task) -> tuple[Tensor, ...]:
        """Each level's energy-to-go [B]."""
        aimed = task.aimed_level(len(self.spec.levels))
        return tuple(
            critic(
                state,
                task.goal if level == aimed else torch.zeros_like(state),
                task.has_goal if level == aimed else torch.zeros_like(task.has_goal),
                task.tokens,
            )
            for level, (critic, state) in enumerate(zip(self.critics, states, strict=False))
        )

    def _perceived_energies(
        self,
        observation: Observation,
        record: Percept,
        state: Tensor,
        discovered: Tensor,
        task: Task,
        memory: MemoryState,
    ) -> Float[Tensor, "B U"]:
        flat = task.aimed_level(len(self.spec.levels)) == 0
        signals = Signals(
            record.reward,
            observation,
            record.previous_action,
            record.is_first,
            discovered,
            state,
            task.goal if flat else torch.zeros_like(state),
            task.has_goal if flat else torch.zeros_like(task.has_goal),
        )
        return self.intrinsic_cost.perceived(signals, self.memory, memory)

    def _predict(self, state: Tensor, action: Tensor, task: Task) -> Float[Tensor, "B D"]:
        """The next level-0 state, to be compared with what will be perceived (L22 section 3.1.1, step 5)."""
        model = self.world_models[0]
        embedding = model.action_encoder.table()[action]  # type: ignore[operator,union-attr]
        latent = state.new_zeros(len(state), model.latent.dim)  # type: ignore[union-attr,call-overload]
        return model.predict(state, embedding, latent, task.tokens).state  # type: ignore[operator]

    def _surprise(self, state: Tensor, predicted: Tensor, is_first: Tensor) -> Float[Tensor, " B"]:
        """Squared prediction error over its running mean; 1, the typical value, where nothing was predicted."""
        error = (state - predicted).square().mean(-1)
        known = ~is_first
        mean = (error * known).sum() / known.sum().clamp_min(1)
        self.surprise_mean.lerp_(torch.where(known.any(), mean, self.surprise_mean), 0.01 if self.training else 0.0)
        return torch.where(is_first, 1.0, error / self.surprise_mean.clamp_min(1e-8))

    def _decision(
        self,
        choice: Choice,
        states: tuple[Tensor, ...],
        values: tuple[Tensor, ...],
        energies: Tensor,
        task: Task,
        surprise: Tensor,
    ) -> Decision:
        pairs = enumerate(zip(states, values, strict=True))
        levels = tuple(self._level_decision(choice, level, state, value) for level, (state, value) in pairs)
        return Decision(
            choice.action, choice.mode, levels, energies, task.intrinsic_weights, surprise, choice.evaluations
        )

    def _level_decision(self, choice: Choice, level: int, state: Tensor, value: Tensor) -> LevelDecision:
        plan = choice.plans[level]
        horizon, rows = self.spec.levels[level].horizon, len(state)
        nothing = state.new_full((rows, horizon, state.shape[-1]), float("nan"))
        return LevelDecision(
            state,
            choice.subgoals[level],
            choice.distances[level],
            choice.reasons[level],
            plan.actions if plan is not None else choice.action.new_full((rows, horizon), -1),
            plan.states if plan is not None else nothing,
            plan.energy if plan is not None else nothing[:, 0, 0],
            value,
        )


def frozen_copy(network: Network) -> Network:
    """A copy that no gradient and no optimiser reaches."""
    return deepcopy(network).requires_grad_(False)


def tick(subgoal: Subgoal, is_first: Bool[Tensor, " B"]) -> Subgoal:
    """A step passes; a subgoal does not outlive its episode."""
    return Subgoal(subgoal.latent, subgoal.remaining - 1, subgoal.active & ~is_first)


def explore(action: Int[Tensor, " B"], epsilon: float, num_actions: int) -> Int[Tensor, " B"]:
    """Replace a share `epsilon` of the actions by uniformly random ones."""
    if epsilon == 0.0:
        return action
    random = torch.randint_like(action, num_actions)
    return torch.where(torch.rand(action.shape, device=action.device) < epsilon, random, action)
