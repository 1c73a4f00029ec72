"""Random shooting: plans drawn once from the prior, the best of them taken."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Planner, PlanningProblem
from hjepa.search import best, initial_logits, sample, seeds
from hjepa.types import LevelSpec, Plan


class ShootingPlanner(Planner):
    """Draws plans from the data's prior times the warm start, every first choice in support at least once."""

    class Config(ModuleConfig):
        """Settings of random shooting."""

        slot: ClassVar[str] = "planner"
        kind: Literal["shooting"] = "shooting"
        candidates: int = Field(256, ge=1)
        """Plans drawn a row (at least one a choice, and one for a warm start)."""
        prior_weight: float = Field(1.0, ge=0, le=1)
        """Exponent of the data's prior over choices; 0: uniform over those in support."""
        smoothing: float = Field(0.1, gt=0, le=1)
        """Uniform share in what a warm start draws."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.candidates, self.prior_weight = config.candidates, config.prior_weight
        self.smoothing = config.smoothing

    @torch.no_grad()
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """The plan of lowest energy; see `Planner.plan`."""
        logits = initial_logits(problem, warm_start, self.smoothing)[:, None]
        forced = seeds(problem, warm_start, self.candidates)
        return best(sample(problem, logits + forced, self.prior_weight), problem.num_actions)
