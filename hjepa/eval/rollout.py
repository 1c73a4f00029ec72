"""Run an agent on given layouts, batched, and count."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hjepa.agent import Mode
from hjepa.envs.vector import Record, VectorEnv
from hjepa.log.progress import LiveLine
from hjepa.log.trace import Recorder
from hjepa.types import Decision

Injection = Callable[[Record], dict[int, Tensor]]
"""An oracle: from the present record to the subgoals [N, G] to set for some levels."""


SIDE_BY_SIDE = 128
"""Episodes played side by side: half the time of 16, the same outcomes."""


class Oracle(Protocol):
    """An oracle that looks behind the view: diagnosis only."""

    def __call__(self, record: Record, state: Any, envs: Sequence[Any]) -> dict[int, Tensor]:
        """Subgoals [N, G] to set for some levels, from the record, the agent's state before it, and the
        environments."""
        ...


class ActingAgent(Protocol):
    """What evaluation asks of an agent; the state is opaque."""

    def initial(self, batch: int, device: torch.device) -> Any: ...

    def act(
        self,
        record: Record,
        state: Any,
        mode: Mode = 2,
        epsilon: float = 0.0,
        levels: int | None = None,
        injected: dict[int, Tensor] | None = None,
    ) -> tuple[Decision, Any]: ...


class RandomAgent:
    """Uniformly random actions: the floor that every agent is compared with."""

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def initial(self, batch: int, device: torch.device) -> None:
        """It remembers nothing."""

    def act(
        self,
        record: Record,
        state: None,
        mode: Mode = 2,
        epsilon: float = 0.0,
        levels: int | None = None,
        injected: dict[int, Tensor] | None = None,
    ) -> tuple[Decision, None]:
        """A decision without levels, energies or evaluations; what it is asked for makes no difference."""
        return bare_decision(record, torch.randint_like(record.previous_action, self.num_actions)), None


def bare_decision(record: Record, action: Int[Tensor, " N"]) -> Decision:
    """The decision of an agent that has no levels, drives or predictor: the action alone."""
    nothing = record.reward.new_zeros(len(action), 0)
    surprise = torch.ones_like(record.reward)
    return Decision(action, torch.ones_like(action), (), nothing, nothing, surprise, action.new_zeros(()))


@dataclass(frozen=True)
class Episodes:
    """What came of E episodes, in the order of their seeds."""

    env_id: str
    seeds: Int[np.ndarray, " E"]
    returns: Float[np.ndarray, " E"]
    lengths: Int[np.ndarray, " E"]
    """Environment steps."""
    evaluations: float
    """Predictor evaluations a decision of one environment, mean."""

    @property
    def success(self) -> Bool[np.ndarray, " E"]:
        """An episode succeeds where its return is positive."""
        return self.returns > 0


def run_episodes(
    agent: ActingAgent,
    env_id: str,
    seeds: Sequence[int],
    mode: Mode,
    num_envs: int = SIDE_BY_SIDE,
    levels: int | None = None,
    injected: Injection | None = None,
    recorder: Recorder | None = None,
    oracle: Oracle | None = None,
    line: LiveLine | None = None,
) -> Episodes:
    """One episode a seed, without exploration, at most `num_envs` of them side by side; `levels` acts with the lowest
    levels only, and `line` shows how many are over.

    `injected` sets subgoals from what the agent sees; `oracle`, for diagnosis only, from the true state too.
    The agent's training mode and torch's global random state are as before afterwards, and randomness in
    acting depends on the seeds alone. Raises ValueError for no seeds.
    """
    if not seeds:
        raise ValueError("at least one seed is needed")
    # No more rows than it takes for the fewest rounds: those that have played all of theirs play for nothing.
    rows = ceil(len(seeds) / ceil(len(seeds) / num_envs))
    tally = _Tally(len(seeds), rows)
    env = VectorEnv(env_id, rows, lambda row, episode: seeds[tally.clip(row, episode)])
    device = device_of(agent)
    decisions, evaluations = 0, torch.zeros((), dtype=torch.float64)
    try:
        with undisturbed(agent, seeds[0]):
            state, action = agent.initial(rows, device), torch.zeros(rows, dtype=torch.int64)
            while not tally.complete:
                record = env.step(action)
                seen = record.to(device)
                given = dict(injected(seen)) if injected else {}
                given |= oracle(seen, state, env.envs) if oracle else {}
                decision, state = agent.act(seen, state, mode, 0.0, levels, given or None)
                action, decisions = decision.action.cpu(), decisions + rows
                evaluations += decision.evaluations.cpu()
                tally.add(record)
                if line is not None:
                    line.update(tally.over, f"{tally.over}/{len(seeds)} episodes over")
                if recorder is not None:
                    recorder.update(record, decision, [None if n is None else seeds[n] for n in tally.present])
    finally:
        env.close()
    return Episodes(env_id, np.array(seeds), tally.returns, tally.lengths, float(evaluations) / decisions)


def decision_latency(
    agent: ActingAgent,
    env_id: str,
    seed: int,
    mode: Mode,
    levels: int | None = None,
    decisions: int = 64,
    warm_up: int = 4,
    injected: Injection | None = None,
) -> Float[np.ndarray, " decisions"]:
    """Wall time in milliseconds of decisions for a single environment, after a few that do not count.

    The time that `injected` takes is not a decision's.
    """
    env = VectorEnv(env_id, 1, lambda row, episode: seed)
    device = device_of(agent)
    milliseconds = []
    try:
        with undisturbed(agent, seed):
            state, action = agent.initial(1, device), torch.zeros(1, dtype=torch.int64)
            for _ in range(warm_up + decisions):
                record = env.step(action).to(device)
                given = injected(record) if injected else None
                start = perf_counter()
                decision, state = agent.act(record, state, mode, 0.0, levels, given)
                action = decision.action.cpu()
                milliseconds.append(1000 * (perf_counter() - start))
    finally:
        env.close()
    return np.array(milliseconds[warm_up:])


def device_of(agent: ActingAgent) -> torch.device:
    """Where the agent's parameters are; the cpu where it has none."""
    parameter = next(agent.parameters(), None) if isinstance(agent, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def undisturbed(agent: ActingAgent, seed: int) -> Iterator[None]:
    """Evaluation mode, and random numbers of `seed`'s own, so that evaluating changes nothing in a run that
    trains."""
    training = isinstance(agent, nn.Module) and agent.training
    device = device_of(agent)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        if isinstance(agent, nn.Module):
            agent.eval()
        try:
            yield
        finally:
            if isinstance(agent, nn.Module):
                agent.train(training)


class _Tally:
    """Returns and lengths by episode. Row r plays the episodes r, r + rows, ...; beyond the last its steps
    count nothing."""

    def __init__(self, episodes: int, rows: int) -> None:
        self.returns = np.zeros(episodes)
        self.lengths = np.zeros(episodes, dtype=np.int64)
        self._over = np.zeros(episodes, dtype=bool)
        self._rows = np.arange(rows)
        self._played = np.full(rows, -1)

    @property
    def complete(self) -> bool:
        return bool(self._over.all())

    @property
    def over(self) -> int:
        return int(self._over.sum())

    @property
    def present(self) -> list[int | None]:
        """Index of each row's episode; None where it counts nothing."""
        index = self._rows + self._played * len(self._rows)
        return [number if number < len(self.returns) else None for number in index.tolist()]

    def clip(self, row: int, episode: int) -> int:
        """Index of a row's episode; rows that have played all of theirs repeat the last, which counts
        nothing."""
        return min(row + episode * len(self._rows), len(self.returns) - 1)

    def add(self, record: Record) -> None:
        self._played += record.is_first.numpy()
        index = self._rows + self._played * len(self._rows)
        counts = index < len(self.returns)
        index = index[counts]
        # A row plays one episode at a time, so no index occurs twice.
        self.returns[index] += record.reward.numpy()[counts]
        self.lengths[index] += ~record.is_first.numpy()[counts]
        self._over[index] |= (record.terminated | record.truncated).numpy()[counts]
