"""Episodes played for the dashboard: what the agent perceived, planned and met, beside what was true.

They are a function of the agent's weights and the layouts alone, so that a run that was resumed shows what one that was
never stopped shows. Nothing of them is learned from by the agent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hjepa.agent import Agent, Mode
from hjepa.cost import observation_code
from hjepa.envs.vector import VectorEnv
from hjepa.interfaces import MemoryState
from hjepa.log.facts import FactReader, Facts
from hjepa.log.trace import Recorder
from hjepa.types import LevelDecision, Task, TensorStruct

Struct = TypeVar("Struct", bound=TensorStruct)


@dataclass(frozen=True)
class MemoryReading(TensorStruct):
    """What the short-term memory held of the state before it was written there."""

    match: Float[Tensor, "*B"]
    """Cosine of the soft read and the state; 0 where nothing near was found."""
    age: Float[Tensor, "*B"]
    """Environment steps since the nearest entry was written; nan where the memory was empty."""
    revisits: Int[Tensor, "*B"]
    """Earlier entries of the episode with the same view."""


@dataclass(frozen=True)
class Sample(TensorStruct):
    """B rows of T consecutive records; a row goes on with the next episode where one ends."""

    previous_action: Int[Tensor, "B T"]
    is_first: Bool[Tensor, "B T"]
    terminated: Bool[Tensor, "B T"]
    truncated: Bool[Tensor, "B T"]
    energies: Float[Tensor, "B T U"]
    """Each drive's, on arriving, unweighted."""
    to_come: Float[Tensor, "B T L"]
    """Energy-to-go that each level's critic grants where an episode ended; 0 elsewhere."""
    task: Task
    levels: tuple[LevelDecision, ...]
    facts: Facts
    reading: MemoryReading


def play(
    agent: Agent,
    env_id: str,
    seed_of: Callable[[int, int], int],
    rows: int,
    steps: int,
    mode: Mode,
    epsilon: float = 0.0,
    recorder: Recorder | None = None,
) -> Sample:
    """Act for `steps` records in `rows` environments; `seed_of(row, episode)` gives the layouts.

    To be called in evaluation mode, without gradients, and with random numbers set apart from the run's
    (`hjepa.eval.rollout.undisturbed`). `recorder` keeps the first episode of row 0, cut where the sample ends.
    """
    env = VectorEnv(env_id, rows, seed_of)
    device = agent.surprise_mean.device
    facts, kept = FactReader(env.envs), []
    after_end = torch.stack([critic.after_end().to(device) for critic in agent.critics])  # type: ignore[operator]
    state, action = agent.initial(rows, device), torch.zeros(rows, dtype=torch.int64)
    try:
        for _ in range(steps):
            record = env.step(action)
            true, seen = facts.read(record), record.to(device)
            memory, time = agent.memory.reset(state.memory, seen.is_first), state.time
            decision, state = agent.act(seen, state, mode, epsilon)
            action = decision.action.cpu()
            reading = _read(
                agent, memory, decision.levels[0].state, seen.image, torch.where(seen.is_first, 0, time + 1)
            )
            ends = (seen.previous_action, seen.is_first, seen.terminated, seen.truncated)
            task = agent.configure(seen.mission)
            to_come = seen.terminated[:, None] * after_end
            kept.append(Sample(*ends, decision.energies, to_come, task, decision.levels, true.to(device), reading))
            if recorder is not None:
                recorder.update(record, decision, [seed_of(0, 0), *([None] * (rows - 1))])
    finally:
        env.close()
    if recorder is not None:
        recorder.cut(0, seed_of(0, 0))
    return stack(kept)


def stack(steps: Sequence[Struct]) -> Struct:
    """Structs [B, ...] of consecutive steps as one [B, T, ...]."""
    return _joined(steps, lambda tensors: torch.stack(tensors, 1))


def concatenate(parts: Sequence[Struct]) -> Struct:
    """Structs of the same widths, one after the other along the batch."""
    return _joined(parts, torch.cat)


def _joined(structs: Sequence[Struct], join: Callable[[tuple[Tensor, ...]], Tensor]) -> Struct:
    groups = zip(*(struct.tensors() for struct in structs), strict=True)
    return structs[0].map(lambda _: join(next(groups)))


def _read(agent: Agent, memory: MemoryState, state: Tensor, image: Tensor, time: Int[Tensor, " B"]) -> MemoryReading:
    entry, found = agent.memory.nearest(memory, state)
    age = torch.where(found, (time - entry.time).float(), float("nan"))
    match = cosine_similarity(agent.memory.read(memory, state), state, dim=-1)
    return MemoryReading(match, age, agent.memory.count(memory, observation_code(image)))
