"""Categorical cross-entropy method."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Planner, PlanningProblem
from hjepa.nets import one_hot
from hjepa.search import Rollout, best, better, initial_logits, sample, seeds, smoothed, take
from hjepa.types import LevelSpec, Plan


class CrossEntropyPlanner(Planner):
    """Refits one categorical distribution a step to the elites of each population (Rubinstein 1999).

    Choices are drawn in the support of the states that a candidate meets; the best plan drawn is returned.
    """

    class Config(ModuleConfig):
        """Settings of the cross-entropy method."""

        slot: ClassVar[str] = "planner"
        kind: Literal["cem"] = "cem"
        population: int = Field(64, ge=2)
        """Plans drawn a row in each iteration (at least one a choice in the first)."""
        iterations: int = Field(4, ge=1)
        """Times that a population is drawn."""
        elite_share: float = Field(0.125, gt=0, le=1)
        """Share of the population that the distribution is refitted to."""
        smoothing: float = Field(0.1, gt=0, le=1)
        """Uniform share that is mixed in, so that no choice dies out."""
        momentum: float = Field(0.1, ge=0, lt=1)
        """Share of the old distribution that stays in the new one."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.population, self.iterations = config.population, config.iterations
        self.elites = max(1, round(config.elite_share * config.population))
        self.smoothing, self.momentum = config.smoothing, config.momentum

    @torch.no_grad()
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """The plan of lowest energy; see `Planner.plan`."""
        logits = initial_logits(problem, warm_start, self.smoothing)
        rollout = sample(problem, logits[:, None] + seeds(problem, warm_start, self.population))
        plan = best(rollout, problem.num_actions)
        for _ in range(self.iterations - 1):
            logits = self._refit(logits, rollout)
            rollout = sample(problem, logits[:, None].expand(-1, self.population, -1, -1))
            plan = better(plan, best(rollout, problem.num_actions))
        return plan

    def _refit(self, logits: Float[Tensor, "B H A"], rollout: Rollout) -> Float[Tensor, "B H A"]:
        """Logits of the next distribution."""
        elites = rollout.energy.topk(self.elites, largest=False).indices
        frequency = one_hot(take(rollout.actions, elites), logits.shape[-1]).mean(1)
        return smoothed(frequency.lerp(logits.softmax(-1), self.momentum), self.smoothing).log()
