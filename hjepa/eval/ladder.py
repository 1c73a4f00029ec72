"""The arms of the ladder: one agent, the same held-out layouts, and one thing changed from arm to arm."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor

from hjepa.agent import Agent, Mode
from hjepa.envs.make import make_env, quiet_reset
from hjepa.envs.vector import Record
from hjepa.eval.load import LoadedRun
from hjepa.eval.matching import flat_like
from hjepa.eval.oracle import OracleSubgoals
from hjepa.eval.rollout import ActingAgent, Episodes, RandomAgent, decision_latency, run_episodes
from hjepa.eval.shortest_path import Episode, ShortestPaths, UnsupportedError
from hjepa.eval.stats import Interval, paired_test, percentile, wilson_interval
from hjepa.log.progress import LiveLine

LATENCY_DECISIONS = 32
NEARLY_EQUAL = 1.1
"""Amounts of search within this factor of each other count as equal."""


@dataclass(frozen=True)
class Arm:
    """What came of one arm; its fields are a promise to scripts."""

    name: str
    label: str
    oracle: bool
    """Whether the environment's true state was used: diagnosis only."""
    mode: Mode | None
    levels: int
    """How many levels acted, from the lowest."""
    episodes: int
    success_rate: float
    success_ci95: Interval
    """Wilson interval."""
    mean_return: float
    mean_length: float
    decision_ms_p50: float
    """Wall time of a decision for a single environment; an oracle's own time does not count."""
    decision_ms_p95: float
    evaluations_per_decision: float
    """Predictor evaluations, over all levels, for a single environment."""


@dataclass(frozen=True)
class Pair:
    """Two arms on the same layouts."""

    first: str
    second: str
    first_only: int
    """Episodes in which only the first arm succeeded."""
    second_only: int
    p_value: float
    """McNemar, exact, two-sided; not corrected for the number of pairs."""


@dataclass
class Ladder:
    """The arms as far as they have been played, by name."""

    run: LoadedRun
    env_id: str
    seeds: Sequence[int]
    arms: dict[str, Arm] = field(default_factory=dict)
    played: dict[str, Episodes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What the reader must know: arms left out, and why."""

    def pairs(self) -> list[Pair]:
        """Every two arms, the ones played first to the left."""
        return [self.pair(first, second) for first, second in combinations(self.arms, 2)]

    def pair(self, first: str, second: str) -> Pair:
        """Two arms by name."""
        return Pair(first, second, *paired_test(self.played[first].success, self.played[second].success))

    def play(
        self,
        name: str,
        label: str,
        agent: ActingAgent,
        mode: Mode | None,
        levels: int,
        oracle: OracleSubgoals | None = None,
    ) -> None:
        """Play one arm; `mode` None is that of an agent that has none. A line goes to standard error."""
        with LiveLine(len(self.seeds)) as line:
            played = run_episodes(agent, self.env_id, self.seeds, mode or 1, levels=levels, oracle=oracle, line=line)
        latency = decision_latency(
            agent, self.env_id, self.seeds[0], mode or 1, levels, LATENCY_DECISIONS,
            injected=None if oracle is None else _anything(oracle.agent, oracle.level),
        )  # fmt: skip
        successes, episodes = int(played.success.sum()), len(self.seeds)
        self.played[name] = played
        self.arms[name] = Arm(
            name,
            label,
            oracle is not None,
            mode,
            levels,
            episodes,
            successes / episodes,
            wilson_interval(successes, episodes),
            float(played.returns.mean()),
            float(played.lengths.mean()),
            percentile(latency, 50),
            percentile(latency, 95),
            played.evaluations,
        )
        print(f"{name}: {successes} of {episodes} succeed", file=sys.stderr)


def climb(run: LoadedRun, env_id: str, seeds: Sequence[int]) -> Ladder:
    """Play every arm that the run and the environment allow."""
    ladder, agent = Ladder(run, env_id, seeds), run.agent
    levels = len(agent.spec.levels)
    ladder.play("random", "random actions", RandomAgent(agent.spec.env.num_actions), None, 0)
    ladder.play("mode_1", "policies, no search", agent, 1, levels)
    ladder.play("flat", "level 0 alone, as configured", agent, 2, 1)
    if levels == 1:
        ladder.notes.append("The run has one level: the hierarchical arms and the oracle's are left out.")
        return ladder
    ladder.play("hierarchical", "all levels plan", agent, 2, levels)
    _play_matched(ladder)
    _play_oracles(ladder)
    return ladder


def _play_matched(ladder: Ladder) -> None:
    """Level 0 alone, with as much search as the hierarchy spends."""
    spent, alone = (ladder.arms[name].evaluations_per_decision for name in ("hierarchical", "flat"))
    if max(spent, alone) <= NEARLY_EQUAL * min(spent, alone):
        ladder.notes.append("Level 0 alone spends as much search as the hierarchy: no other flat arm is needed.")
        return
    agent, settings = flat_like(ladder.run, spent / alone)
    ladder.play("flat_equal", f"level 0 alone, searching as much as the hierarchy: {settings}", agent, 2, 1)


def _play_oracles(ladder: Ladder) -> None:
    """The hierarchy under an oracle's subgoals, at one level after the other."""
    agent, levels = ladder.run.agent, len(ladder.run.agent.spec.levels)
    try:
        _check_search(ladder.env_id, ladder.seeds[0])
        for level in range(levels - 1):
            oracle = OracleSubgoals(agent, level)
            label = f"all levels plan, level {level} under an oracle's subgoals (diagnosis only)"
            ladder.play(f"oracle_{level}", label, agent, 2, levels, oracle)
            if oracle.without_way:
                share = oracle.without_way / oracle.subgoals
                ladder.notes.append(f"oracle_{level}: {share:.0%} of its subgoals had no way to success to show.")
    except UnsupportedError as error:
        ladder.notes.append(f"No oracle in {ladder.env_id}: {error}.")


def _check_search(env_id: str, seed: int) -> None:
    """Raise UnsupportedError where shortest paths cannot be searched for."""
    env = make_env(env_id)
    try:
        quiet_reset(env, seed)
        episode = Episode(env)
        ShortestPaths(episode.maze).steps(episode.state(env))
    finally:
        env.close()


def _anything(agent: Agent, level: int) -> Callable[[Record], dict[int, Tensor]]:
    """Subgoals that say nothing, to time decisions under given subgoals."""
    width = agent.spec.levels[level].upper_dim
    return lambda record: {level: torch.zeros(len(record.reward), width, device=record.reward.device)}
