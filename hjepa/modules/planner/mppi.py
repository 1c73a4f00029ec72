"""Categorical model-predictive path integral control."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Planner, PlanningProblem
from hjepa.nets import one_hot
from hjepa.search import Rollout, best, better, initial_logits, sample, seeds, smoothed
from hjepa.types import LevelSpec, Plan


class PathIntegralPlanner(Planner):
    """Moves a categorical distribution a step toward all candidates, weighed by softmin of their energy.

    MPPI (Williams et al. 2017) with categorical in place of Gaussian noise. Energies are taken relative to
    their standard deviation in the population, so that the temperature does not depend on their scale.
    """

    class Config(ModuleConfig):
        """Settings of path integral control."""

        slot: ClassVar[str] = "planner"
        kind: Literal["mppi"] = "mppi"
        population: int = Field(64, ge=2)
        """Plans drawn a row in each iteration (at least one a choice in the first)."""
        iterations: int = Field(4, ge=1)
        """Times that a population is drawn."""
        temperature: float = Field(0.3, gt=0)
        """Excess energy, in standard deviations of the population, that makes a weight e times smaller."""
        rate: float = Field(0.9, gt=0, le=1)
        """How far the distribution moves toward the weighted candidates."""
        smoothing: float = Field(0.1, gt=0, le=1)
        """Uniform share that is mixed in, so that no choice dies out."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.population, self.iterations = config.population, config.iterations
        self.temperature, self.rate, self.smoothing = config.temperature, config.rate, config.smoothing

    @torch.no_grad()
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """The plan of lowest energy; see `Planner.plan`."""
        logits = initial_logits(problem, warm_start, self.smoothing)
        rollout = sample(problem, logits[:, None] + seeds(problem, warm_start, self.population))
        plan = best(rollout, problem.num_actions)
        for _ in range(self.iterations - 1):
            logits = self._move(logits, rollout)
            rollout = sample(problem, logits[:, None].expand(-1, self.population, -1, -1))
            plan = better(plan, best(rollout, problem.num_actions))
        return plan

    def _move(self, logits: Float[Tensor, "B H A"], rollout: Rollout) -> Float[Tensor, "B H A"]:
        """Logits of the next distribution."""
        excess = rollout.energy - rollout.energy.amin(1, keepdim=True)
        spread = excess.std(1, keepdim=True).clamp_min(torch.finfo(excess.dtype).tiny)
        weights = torch.softmax(-excess / (self.temperature * spread), 1)
        frequency = (weights[..., None, None] * one_hot(rollout.actions, logits.shape[-1])).sum(1)
        return smoothed(logits.softmax(-1).lerp(frequency, self.rate), self.smoothing).log()
