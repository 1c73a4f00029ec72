"""Exhaustive search of all choice sequences, as far as a budget of leaves allows."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Planner, PlanningProblem
from hjepa.tree_search import tree_search
from hjepa.types import LevelSpec, Plan


class ExhaustivePlanner(Planner):
    """Tree of all A^H plans, level by level, sharing prefixes: exact while A^H is at most `limit`.

    Beyond, the partial plans of lowest energy are kept (a beam), so that the work stays bounded. Where all
    plans fit, a warm start changes nothing; beyond, its own plan is among those kept.
    """

    class Config(ModuleConfig):
        """Settings of exhaustive search."""

        slot: ClassVar[str] = "planner"
        kind: Literal["exhaustive"] = "exhaustive"
        limit: int = Field(4096, ge=1)
        """Most plans a row to score in one step (at least the square of the number of choices is allowed)."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.limit = config.limit

    @torch.no_grad()
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """The plan of lowest energy; see `Planner.plan`."""
        return tree_search(problem, self.limit // problem.num_actions, warm_start)
