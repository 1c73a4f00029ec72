"""Beam search: the best partial plans of each length are expanded by every choice."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Planner, PlanningProblem
from hjepa.tree_search import tree_search
from hjepa.types import LevelSpec, Plan


class BeamPlanner(Planner):
    """Keeps the `width` partial plans of lowest energy, the critic judging where they have come to.

    The best of each first choice and the warm start's own plan are always among them.
    """

    class Config(ModuleConfig):
        """Settings of beam search."""

        slot: ClassVar[str] = "planner"
        kind: Literal["beam"] = "beam"
        width: int = Field(32, ge=1)
        """Partial plans a row that are kept (at least one a choice, and one for a warm start)."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.width = config.width

    @torch.no_grad()
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """The plan of lowest energy; see `Planner.plan`."""
        return tree_search(problem, self.width, warm_start)
