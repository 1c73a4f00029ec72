"""From the arms of the ladder to words: which level loses the most, and why it is thought so."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hjepa.eval.ladder import Arm, Ladder

Fault = Literal["not_learned", "none", "subgoals", "following", "hierarchy", "planning"]

LOW = 0.2
"""No arm above this success rate: there is nothing yet that a level could lose."""
WORTH_TELLING = 0.05
"""Smaller losses are not laid at any level's door."""
SIGNIFICANT = 0.05

REASONS: dict[Fault, str] = {
    "not_learned": (
        "No arm does well, with search or without, whatever the subgoals: what all of them share, level 0's "
        "perception and critic, has not been learned yet. Look at level_0/std, "
        "level_0/within_episode_std and critic_0/calibration, and train longer."
    ),
    "none": "No arm is better than the one that it should not be better than: no level is at fault.",
    "subgoals": (
        "With an oracle's subgoals in place of its own the levels below succeed more often: they can follow "
        "subgoals, and those that this level sets are not worth following. Look at its rollout error, "
        "macro-actions and critic."
    ),
    "following": (
        "Level 0 alone succeeds more often than under subgoals that are known to be good: it does not follow "
        "them, or the subgoal's energy outweighs its own. Look at subgoal_0/distance by step, and try a "
        "lower subgoal_weight."
    ),
    "hierarchy": (
        "Level 0 alone succeeds more often than under the subgoals from above; without an oracle it cannot "
        "be told whether those are bad or whether level 0 does not follow them."
    ),
    "planning": (
        "The policies succeed more often without search than level 0 does with it: its world model or critic "
        "misleads the search. Look at level_0/rollout_error at the planner's depth and critic_0/calibration."
    ),
}


@dataclass(frozen=True)
class Loss:
    """What is lost from a better arm to a worse one, and the level at whose door it is laid."""

    level: int
    fault: Fault
    better: str
    worse: str
    amount: float
    """Difference of the success rates; negative where nothing is lost."""
    p_value: float
    """McNemar, exact, two-sided."""


@dataclass(frozen=True)
class Verdict:
    """The level that loses the most."""

    level: int | None
    """None where none is at fault."""
    fault: Fault
    losses: tuple[Loss, ...]
    """All that were looked at, the largest first."""
    words: tuple[str, ...]


def judge(ladder: Ladder) -> Verdict:
    """Name the level that loses the most, or say why none can be named."""
    losses = tuple(sorted(_losses(ladder), key=lambda loss: -loss.amount))
    level, fault = (losses[0].level, losses[0].fault) if losses else (None, "none")
    if _nothing_learned(ladder):
        level, fault = 0, "not_learned"
    elif not losses or losses[0].amount < WORTH_TELLING:
        level, fault = None, "none"
    words = [_headline(ladder, level, fault, losses), REASONS[fault]]
    words += [_in_words(ladder, loss) for loss in losses]
    return Verdict(level, fault, losses, (*words, *_worth_of_hierarchy(ladder)))


def _losses(ladder: Ladder) -> Iterator[Loss]:
    """Every step of the ladder whose two arms were played."""
    oracles = sorted(name for name in ladder.arms if ladder.arms[name].oracle)
    for number, oracle in enumerate(oracles):
        yield _loss(ladder, number + 1, "subgoals", oracle, (*oracles, "hierarchical")[number + 1])
    if oracles:
        yield _loss(ladder, 0, "following", "flat", oracles[0])
    elif "hierarchical" in ladder.arms:
        yield _loss(ladder, 1, "hierarchy", "flat", "hierarchical")
    yield _loss(ladder, 0, "planning", "mode_1", "flat")


def _loss(ladder: Ladder, level: int, fault: Fault, better: str, worse: str) -> Loss:
    amount = ladder.arms[better].success_rate - ladder.arms[worse].success_rate
    return Loss(level, fault, better, worse, amount, ladder.pair(better, worse).p_value)


def _nothing_learned(ladder: Ladder) -> bool:
    """Whether all arms are low, or none is above random actions."""
    best = _best(ladder).success_rate
    return best < LOW or best <= ladder.arms["random"].success_rate < 1


def _best(ladder: Ladder) -> Arm:
    """The best arm that is not random."""
    return max((arm for arm in ladder.arms.values() if arm.mode is not None), key=lambda arm: arm.success_rate)


def _headline(ladder: Ladder, level: int | None, fault: Fault, losses: tuple[Loss, ...]) -> str:
    if fault == "not_learned":
        best = _best(ladder)
        random = ladder.arms["random"].success_rate
        return (
            f"Level 0 has not been learned: the best arm ({best.name}) succeeds in {best.success_rate:.0%}, "
            f"random actions in {random:.0%}."
        )
    if level is None:
        return f"No level loses more than {WORTH_TELLING:.0%} of the episodes."
    largest = losses[0]
    surely = "" if largest.p_value < SIGNIFICANT else " This may be chance: play more episodes (--episodes)."
    return f"Level {level} loses the most: {largest.amount:.0%} of the episodes.{surely}"


def _in_words(ladder: Ladder, loss: Loss) -> str:
    better, worse = ladder.arms[loss.better], ladder.arms[loss.worse]
    rates = f"{better.name} {better.success_rate:.0%}, {worse.name} {worse.success_rate:.0%}"
    amount = f"loses {loss.amount:.0%}" if loss.amount > 0 else "loses nothing"
    return f"Level {loss.level}, {loss.fault}: {amount} ({rates}, p = {loss.p_value:.2g})."


def _worth_of_hierarchy(ladder: Ladder) -> Iterator[str]:
    """What the levels above 0 are worth, at equal search."""
    if "hierarchical" not in ladder.arms:
        return
    whole = ladder.arms["hierarchical"]
    flat = ladder.arms.get("flat_equal", ladder.arms["flat"])
    spent = f"{whole.evaluations_per_decision:.0f} and {flat.evaluations_per_decision:.0f} evaluations a decision"
    p_value = ladder.pair("hierarchical", flat.name).p_value
    yield (
        f"At about equal search ({spent}) the hierarchy succeeds in {whole.success_rate:.0%} and level 0 "
        f"alone in {flat.success_rate:.0%} (p = {p_value:.2g})."
    )
