"""Whole episodes with everything the agent decided in them, for pictures and diagnosis."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hjepa.envs.vector import Record
from hjepa.types import Decision, LevelDecision, TensorStruct

Struct = TypeVar("Struct", bound=TensorStruct)


@dataclass(frozen=True)
class Trace:
    """One episode, on the cpu, with time in place of the batch: T = length + 1 records, the last one terminal unless
    the episode was cut."""

    env_id: str
    seed: int
    record: Record
    action: Int[Tensor, " T"]
    """Taken at each record; the terminal record's was ignored."""
    mode: Int[Tensor, " T"]
    levels: tuple[LevelDecision, ...]
    energies: Float[Tensor, "T U"]
    """Unweighted, perceived on arriving."""
    intrinsic_weights: Float[Tensor, "T U"]
    surprise: Float[Tensor, " T"]

    @property
    def length(self) -> int:
        """Environment steps."""
        return len(self.action) - 1

    @property
    def success(self) -> bool:
        """Whether the return is positive."""
        return bool(self.record.reward.sum() > 0)


class Recorder:
    """Keeps the first `limit` episodes that finish. Costs a copy to the cpu at every step."""

    def __init__(self, env_id: str, limit: int = 1) -> None:
        self.traces: list[Trace] = []
        self._env_id, self._limit = env_id, limit
        self._steps: list[tuple[Record, Decision]] = []
        self._begin: dict[int, int] = {}

    def update(self, record: Record, decision: Decision, seeds: Sequence[int | None]) -> None:
        """Take one step of a batch; `seeds` are the layout seeds of the rows' present episodes, None where
        the row is not wanted. Rows join at the first record of an episode. Does nothing once there are
        enough episodes.
        """
        if len(self.traces) >= self._limit:
            return
        self._steps.append((record.to(torch.device("cpu")), _to_cpu(decision)))
        now = len(self._steps) - 1
        for row in record.is_first.nonzero().flatten().tolist():
            self._begin[row] = now
        for row in (record.terminated | record.truncated).nonzero().flatten().tolist():
            begin = self._begin.pop(row, None)
            seed = seeds[row]
            if begin is not None and seed is not None and len(self.traces) < self._limit:
                self.traces.append(self._trace(row, begin, seed))
        self._forget()

    def cut(self, row: int, seed: int) -> None:
        """Take a row's present episode as it is, where there are not enough episodes yet."""
        begin = self._begin.get(row)
        if begin is not None and len(self.traces) < self._limit:
            self.traces.append(self._trace(row, begin, seed))
            self._forget()

    def _trace(self, row: int, begin: int, seed: int) -> Trace:
        steps = self._steps[begin:]
        records, decisions = [step[0] for step in steps], [step[1] for step in steps]
        levels = tuple(
            _stack([decision.levels[level] for decision in decisions], row) for level in range(len(decisions[0].levels))
        )
        return Trace(
            self._env_id,
            seed,
            _stack(records, row),
            torch.stack([decision.action[row] for decision in decisions]),
            torch.stack([decision.mode[row] for decision in decisions]),
            levels,
            torch.stack([decision.energies[row] for decision in decisions]),
            torch.stack([decision.intrinsic_weights[row] for decision in decisions]),
            torch.stack([decision.surprise[row] for decision in decisions]),
        )

    def _forget(self) -> None:
        if len(self.traces) >= self._limit:
            self._steps, self._begin = [], {}
            return
        oldest = min(self._begin.values(), default=len(self._steps))
        self._steps = self._steps[oldest:]
        self._begin = {row: begin - oldest for row, begin in self._begin.items()}


def _to_cpu(decision: Decision) -> Decision:
    cpu = torch.device("cpu")
    return Decision(
        decision.action.to(cpu),
        decision.mode.to(cpu),
        tuple(level.to(cpu) for level in decision.levels),
        decision.energies.to(cpu),
        decision.intrinsic_weights.to(cpu),
        decision.surprise.to(cpu),
        decision.evaluations.to(cpu),
    )


def _stack(structs: Sequence[Struct], row: int) -> Struct:
    # One row of every struct, stacked over time; what is no tensor is taken from the first.
    first = structs[0]
    stacked = {}
    for field in fields(first):  # type: ignore[arg-type]
        values = [getattr(struct, field.name) for struct in structs]
        if isinstance(values[0], Tensor):
            stacked[field.name] = torch.stack([value[row] for value in values])
        elif isinstance(values[0], TensorStruct):
            stacked[field.name] = _stack(values, row)
        else:
            stacked[field.name] = values[0]
    return type(first)(**stacked)
