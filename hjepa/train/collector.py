"""Collecting experience: the agent acts in a batch of environments and every record goes to the store."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from hjepa.agent import Agent, AgentState, Mode
from hjepa.data.store import EpisodeStore
from hjepa.envs.vector import Record, VectorEnv
from hjepa.log.decisions import DecisionTracker
from hjepa.log.subgoals import SubgoalTracker
from hjepa.log.tags import MEMORY_OCCUPANCY
from hjepa.train.seeding import seed_everything_at
from hjepa.types import Decision, TensorStruct

Struct = TypeVar("Struct", bound=TensorStruct)

COMPETENCE = 0.03
"""Weight of an episode's outcome in the running share of episodes that succeed."""


@dataclass(frozen=True)
class Exploration:
    """Share of random actions: 1 until `prefill` frames, then linearly down to `epsilon` over `decay` frames."""

    epsilon: float
    prefill: int
    decay: int

    def at(self, frames: int) -> float:
        """The share after `frames` environment frames."""
        if frames < self.prefill:
            return 1.0
        progress = min((frames - self.prefill) / max(self.decay, 1), 1.0)
        return 1.0 + (self.epsilon - 1.0) * progress


@dataclass
class EpisodeStatistics:
    """Outcomes of the training episodes that ended since the last reading."""

    returns: list[float]
    lengths: list[int]

    def read(self) -> dict[str, float]:
        """Means by name, and forget; empty where no episode ended."""
        count = len(self.returns)
        if count == 0:
            return {}
        result = {
            "train/success": sum(value > 0 for value in self.returns) / count,
            "train/return": sum(self.returns) / count,
            "train/length": sum(self.lengths) / count,
            "train/episodes": float(count),
        }
        self.returns, self.lengths = [], []
        return result


class Collector:
    """Steps the environments; its whole state can be saved and restored exactly."""

    def __init__(
        self,
        agent: Agent,
        env: VectorEnv,
        store: EpisodeStore,
        exploration: Exploration,
        mode: Mode,
        seed: int,
        device: torch.device,
    ) -> None:
        self.agent, self.env, self.store = agent, env, store
        self.exploration, self.seed, self.device = exploration, seed, device
        self.mode: Mode = mode
        self.frames, self.steps = 0, 0
        self.state: AgentState = agent.initial(env.num_envs, device)
        self.record: Record = env.last or env.step(torch.zeros(env.num_envs, dtype=torch.int64))
        self.episode_return = torch.zeros(env.num_envs)
        self.episode_length = torch.zeros(env.num_envs, dtype=torch.int64)
        self.statistics = EpisodeStatistics([], [])
        self.subgoals = SubgoalTracker(agent.spec)
        self.decisions = DecisionTracker(agent.spec)
        self.observers: list[Callable[[Decision, Record], None]] = []
        """Called after every decision; they must change nothing."""

    def collect_until(self, frames: int) -> None:
        """Step until at least `frames` environment frames were seen in all."""
        while self.frames < frames:
            self._step()

    def _step(self) -> None:
        seed_everything_at(self.seed, "collect", self.steps)
        epsilon = self.exploration.at(self.frames)
        record = self.record.to(self.device)
        # Nothing has been learned while every action is random: mode 1 is the cheap way to keep the agent's state.
        mode: Mode = 1 if epsilon == 1.0 else self.mode
        before = self.state.carry
        decision, self.state = self.agent.act(record, self.state, mode, epsilon)
        self.store.append(self.record, decision.energies.cpu(), before.cpu())
        self.subgoals.update(decision, record)
        self.decisions.update(decision)
        for observer in self.observers:
            observer(decision, record)
        self.record = self.env.step(decision.action.cpu())
        self.frames += self.record.frames
        self.steps += 1
        self._count(self.record)

    def _count(self, record: Record) -> None:
        self.episode_return = torch.where(record.is_first, 0.0, self.episode_return + record.reward)
        self.episode_length = torch.where(record.is_first, 0, self.episode_length + 1)
        ended = record.terminated | record.truncated
        returns = self.episode_return[ended].tolist()
        for outcome in returns:
            self.agent.configurator.competence.lerp_(torch.tensor(float(outcome > 0), device=self.device), COMPETENCE)
        self.statistics.returns += returns
        self.statistics.lengths += self.episode_length[ended].tolist()

    def report(self) -> dict[str, float]:
        """Scalars by tag: episodes, subgoals and decisions since the last reading, and how full the memory is."""
        scalars = self.statistics.read() | self.subgoals.summary() | self.decisions.summary()
        return scalars | {MEMORY_OCCUPANCY(): float((self.state.memory.time >= 0).float().mean())}

    # ---------------------------------------------------------------------------------------------- saving
    def tensors(self) -> dict[str, Tensor]:
        """What must be kept beside the agent's weights and the store, as tensors by name."""
        return {
            **flatten(self.state, "state"),
            "episode_return": self.episode_return,
            "episode_length": self.episode_length,
            **self.decisions.tensors(),
        }

    def restore(self, tensors: dict[str, Tensor], frames: int, steps: int) -> None:
        """Continue from saved tensors; the environments have been restored before."""
        self.state = unflatten(self.state, "state", tensors)
        assert self.env.last is not None
        self.record = self.env.last
        self.episode_return, self.episode_length = tensors["episode_return"], tensors["episode_length"]
        self.frames, self.steps = frames, steps
        self.decisions.restore(tensors)


def flatten(struct: TensorStruct, prefix: str) -> dict[str, Tensor]:
    """Tensors of a nested struct by dotted name."""
    result: dict[str, Tensor] = {}
    for field in fields(struct):  # type: ignore[arg-type]
        value, name = getattr(struct, field.name), f"{prefix}.{field.name}"
        if isinstance(value, Tensor):
            result[name] = value
        elif isinstance(value, tuple):
            for number, item in enumerate(value):
                result |= flatten(item, f"{name}.{number}")
        elif isinstance(value, TensorStruct):
            result |= flatten(value, name)
    return result


def unflatten(template: Struct, prefix: str, tensors: dict[str, Tensor]) -> Struct:
    """A struct like `template` with the tensors saved by `flatten`, on the template's devices."""
    names = iter(flatten(template, prefix))
    return template.map(lambda old: tensors[next(names)].to(old.device))
