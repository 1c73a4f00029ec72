"""A flat agent that spends a given amount of search: what a hierarchy must be compared with."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.agent import Agent
from hjepa.build import build_agent, build_module
from hjepa.config.schema import LevelConfig
from hjepa.eval.load import LoadedRun
from hjepa.interfaces import Node, PlanningProblem
from hjepa.types import LevelSpec

EFFORT = {
    "exhaustive": "limit",
    "beam": "width",
    "cem": "population",
    "mppi": "population",
    "gradient": "restarts",
    "mcts": "simulations",
    "shooting": "candidates",
}
"""Setting of each planner that says how widely it searches; of other planners only the horizon is varied."""
LONGER = 3
"""Steps by which the horizon may grow."""
STEPS_OF_EFFORT = range(-16, 13)
"""Powers of the square root of 2 by which the width of the search is multiplied."""
GRAIN = 0.1
"""Amounts of search that differ by about this share are as good as each other."""


@dataclass(frozen=True)
class Variant:
    """Level 0 with another horizon and width of search."""

    level: LevelConfig
    evaluations: int
    """Predictor evaluations of one plan."""
    step: int
    """By how much the width differs from the configured one."""


def flat_like(run: LoadedRun, ratio: float) -> tuple[Agent, str]:
    """The run's agent with a planner at level 0 that spends about `ratio` times the predictor evaluations.

    Also says, in words, how it searches.
    """
    best = nearest(run.config.levels[0], run.agent.spec.levels[0], ratio)
    config = run.config.model_copy(update={"levels": (best, *run.config.levels[1:])})
    agent = build_agent(config, run.agent.spec.env)
    agent.load_state_dict(run.agent.state_dict())
    agent.to(next(run.agent.parameters()).device).eval()
    return agent, describe(best)


def nearest(level: LevelConfig, spec: LevelSpec, ratio: float) -> LevelConfig:
    """The level with the horizon and width of search that spend nearest to `ratio` times the evaluations.

    Among those about equally near the one whose width is changed least, then the shortest horizon.
    """
    target = ratio * evaluations(level, spec)

    def remoteness(one: Variant) -> tuple[int, int]:
        return round(abs(log(one.evaluations / target)) / GRAIN), abs(one.step)

    return min(variants(level, spec, 2 * target), key=remoteness).level


def variants(level: LevelConfig, spec: LevelSpec, most: float) -> Iterator[Variant]:
    """The level with other horizons and widths of search, up to about `most` evaluations."""
    name = EFFORT.get(level.planner.kind)
    for horizon in range(level.horizon, level.horizon + LONGER + 1):
        longer = level.model_copy(update={"horizon": horizon})
        for step in STEPS_OF_EFFORT if name else (0,):
            wider = longer
            if name is not None:
                width = max(2, round(getattr(level.planner, name) * 2 ** (step / 2)))
                planner = level.planner.model_copy(update={name: width})
                wider = longer.model_copy(update={"planner": planner})
            yield (variant := Variant(wider, evaluations(wider, spec), step))
            if variant.evaluations > most:
                break


def describe(level: LevelConfig) -> str:
    """Horizon and width of the search, in words."""
    name = EFFORT.get(level.planner.kind)
    width = f", {name} {getattr(level.planner, name)}" if name else ""
    return f"horizon {level.horizon}{width}"


def evaluations(level: LevelConfig, spec: LevelSpec) -> int:
    """Predictor evaluations of one plan of level 0, counted on a problem in which nothing matters."""
    planner = build_module(level.planner, replace(spec, horizon=level.horizon))
    with torch.random.fork_rng([]):
        plan = planner.plan(Idle(spec.num_actions, level.horizon), None)  # type: ignore[operator]
    return int(plan.evaluations)


class Idle(PlanningProblem):
    """Every plan is as good as any other: there to count what a planner spends."""

    def __init__(self, num_actions: int, horizon: int) -> None:
        self.batch, self.num_actions, self.horizon = 1, num_actions, horizon
        self.device = torch.device("cpu")

    def root(self) -> Node:
        """One state of one dimension."""
        nothing = torch.zeros(1, 1, 1)
        return Node(nothing[..., None], nothing, nothing)

    def support(self, node: Node) -> Float[Tensor, "B N A"]:
        """All choices alike."""
        return node.energy.new_zeros(*node.energy.shape[:2], self.num_actions)

    def step(self, node: Node, weights: Float[Tensor, "B N A"]) -> Node:
        """Nothing changes."""
        return replace(node, energy=node.energy + 0 * weights.sum(-1, keepdim=True), depth=node.depth + 1)

    def score(self, node: Node) -> Float[Tensor, "B N"]:
        """Nothing costs."""
        return node.energy.mean(-1)
