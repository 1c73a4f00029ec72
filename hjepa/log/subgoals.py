"""What becomes of subgoals: whether they are reached, when, why they are replaced, and by how different
ones."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.envs.vector import Record
from hjepa.log import tags
from hjepa.types import REPLAN_REASONS, AgentSpec, Decision, LevelDecision, TensorStruct

REACHED = REPLAN_REASONS.index("reached")


@dataclass(frozen=True)
class LevelTally(TensorStruct):
    """Sums since the last summary, and the subgoals now alive, of one level."""

    distance: Float[Tensor, " ages"]
    """Sum of distances by age of the subgoal; the last age takes all beyond."""
    visits: Int[Tensor, " ages"]
    replaced: Int[Tensor, " reasons"]
    """Subgoals that were replaced, by reason."""
    life: Int[Tensor, ""]
    """Steps for which the replaced subgoals had been kept, summed."""
    time_to_reach: Int[Tensor, ""]
    churn: Float[Tensor, ""]
    latent: Float[Tensor, "B G"]
    age: Int[Tensor, " B"]
    """Environment steps since the present subgoal was set."""
    alive: Bool[Tensor, " B"]


class SubgoalTracker:
    """Accumulates on the device, without host synchronisation, until `summary` reads and forgets the sums.

    Subgoals that outlive their episode are left out of rates and times, since nobody knows what would have
    become of them. Distances are those at each step to the subgoal that then holds.
    """

    def __init__(self, spec: AgentSpec) -> None:
        self._dims = [level.upper_dim for level in spec.levels[:-1]]
        self._ages = [upper.span + 1 for upper in spec.levels[1:]]
        self._tallies: list[LevelTally] = []

    def update(self, decision: Decision, record: Record) -> None:
        """Count one decision of a batch, whose number of rows must stay the same."""
        device, rows = decision.action.device, len(decision.action)
        if not self._tallies:
            self._tallies = [_empty(rows, dim, ages, device) for dim, ages in zip(self._dims, self._ages, strict=True)]
        is_first = record.is_first.to(device)
        over = (record.terminated | record.truncated).to(device)
        pairs = zip(self._tallies, decision.levels, strict=False)
        self._tallies[: len(decision.levels)] = [_count(tally, level, is_first, over) for tally, level in pairs]

    def summary(self) -> dict[str, float]:
        """Scalars by tag since the last summary; what did not occur is left out. One transfer to the host a
        level."""
        scalars: dict[str, float] = {}
        for level, tally in enumerate(self._tallies):
            scalars |= _summarise(level, tally)
        self._tallies = [_forget(tally) for tally in self._tallies]
        return scalars

    def tensors(self) -> dict[str, Tensor]:
        """All state, by name, for a checkpoint; empty before the first update."""
        return {
            f"{level}.{field.name}": getattr(tally, field.name)
            for level, tally in enumerate(self._tallies)
            for field in fields(tally)
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from what `tensors` gave."""
        names = [field.name for field in fields(LevelTally)]
        count = len(tensors) // len(names)
        self._tallies = [LevelTally(*(tensors[f"{level}.{name}"] for name in names)) for level in range(count)]


def _empty(rows: int, dim: int, ages: int, device: torch.device) -> LevelTally:
    count = torch.zeros((), dtype=torch.int64, device=device)
    return LevelTally(
        torch.zeros(ages, device=device),
        count.repeat(ages),
        count.repeat(len(REPLAN_REASONS)),
        count,
        count,
        torch.zeros((), device=device),
        torch.zeros(rows, dim, device=device),
        count.repeat(rows),
        torch.zeros(rows, dtype=torch.bool, device=device),
    )


def _forget(tally: LevelTally) -> LevelTally:
    rows, dim = tally.latent.shape
    empty = _empty(rows, dim, len(tally.visits), tally.latent.device)
    return LevelTally(
        empty.distance,
        empty.visits,
        empty.replaced,
        empty.life,
        empty.time_to_reach,
        empty.churn,
        tally.latent,
        tally.age,
        tally.alive,
    )


def _count(
    tally: LevelTally, level: LevelDecision, is_first: Bool[Tensor, " B"], over: Bool[Tensor, " B"]
) -> LevelTally:
    active, latent = level.subgoal.active, level.subgoal.latent
    new = active & (level.reason != 0)
    replaced = new & tally.alive & ~is_first
    life = tally.age + 1
    # What is set at a terminal record is never acted on.
    counted = active & level.distance.isfinite() & ~(new & over)
    age = torch.where(new | ~active, 0, life)
    slot = age.clamp_max(len(tally.visits) - 1)
    reasons = level.reason[:, None] == torch.arange(len(REPLAN_REASONS), device=level.reason.device)
    reached = replaced & (level.reason == REACHED)
    return LevelTally(
        tally.distance.index_add(0, slot, torch.where(counted, level.distance, 0.0)),
        tally.visits.index_add(0, slot, counted.long()),
        tally.replaced + (reasons & replaced[:, None]).sum(0),
        tally.life + (life * replaced).sum(),
        tally.time_to_reach + (life * reached).sum(),
        tally.churn + (_relative_change(tally.latent, latent) * replaced).sum(),
        torch.where(new[:, None], latent, tally.latent),
        age,
        active & ~over,
    )


def _relative_change(before: Float[Tensor, "B G"], after: Float[Tensor, "B G"]) -> Float[Tensor, " B"]:
    norm = torch.linalg.vector_norm
    mean = (norm(before, dim=-1) + norm(after, dim=-1)) / 2
    return norm(after - before, dim=-1) / mean.clamp_min(1e-8)


def _summarise(level: int, tally: LevelTally) -> dict[str, float]:
    sums = torch.stack([tally.life.float(), tally.time_to_reach.float(), tally.churn])
    life, time_to_reach, churn, *rest = torch.cat(
        [sums, tally.replaced.float(), tally.distance, tally.visits.float()]
    ).tolist()
    by_reason, ages = rest[: len(REPLAN_REASONS)], len(tally.visits)
    distances, visits = rest[len(REPLAN_REASONS) : -ages], rest[-ages:]
    scalars: dict[str, float] = {}
    if sum(visits) > 0:
        scalars[tags.SUBGOAL_DISTANCE(level)] = sum(distances) / sum(visits)
    for step, (distance, count) in enumerate(zip(distances, visits, strict=True)):
        if count > 0:
            scalars[tags.SUBGOAL_DISTANCE_AT(level, step)] = distance / count
    replaced = sum(by_reason)
    if replaced > 0:
        reached = by_reason[REACHED]
        scalars[tags.SUBGOAL_REACH_RATE(level)] = reached / replaced
        scalars[tags.SUBGOAL_COMMITMENT(level)] = life / replaced
        scalars[tags.SUBGOAL_CHURN(level)] = churn / replaced
        for reason in tags.SUBGOAL_REASONS:
            share = by_reason[REPLAN_REASONS.index(reason)] / replaced
            scalars[tags.SUBGOAL_REASON(level, reason)] = share
        if reached > 0:
            scalars[tags.SUBGOAL_TIME_TO_REACH(level)] = time_to_reach / reached
    return scalars
