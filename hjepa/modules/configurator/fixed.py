"""A configurator that says the same whatever the mission: weights straight from the config."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Configurator
from hjepa.modules.drive_weights import drive_floors, drive_weights
from hjepa.types import AgentSpec, Task


class Fixed(Configurator):
    """Constant cost weights, no tokens, no goal, no parameters. ValueError for an unknown drive."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "configurator"
        kind: Literal["fixed"] = "fixed"
        token_dim: Literal[0] = 0
        """Width of the task tokens: this configurator emits none."""
        intrinsic_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
        """Weight u of each drive by name, 1 where missing; raised to its floor."""
        final_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
        """Weight of a drive once every training episode succeeds, approached as ever more do; where missing, as above.
        """
        critic_weight: float = Field(1.0, ge=0)
        """Weight v of every level's critic."""
        floors: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
        """Lowest weight of a drive by name; where missing, 1 for guardrails and 0 for others."""

    weights: Tensor
    final_weights: Tensor

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        floors = drive_floors(config.floors, spec)
        weights = drive_weights(config.intrinsic_weights, spec)
        final = drive_weights(config.final_weights, spec, weights)
        self.register_buffer("weights", weights.maximum(floors), persistent=False)
        self.register_buffer("final_weights", final.maximum(floors), persistent=False)
        self.critic_weight = config.critic_weight
        self.num_levels = len(spec.levels)

    def forward(self, mission: Int[Tensor, "B Q"], top_state: Float[Tensor, "B D"]) -> Task:
        batch = len(mission)
        return Task(
            tokens=top_state.new_zeros(batch, 0, 0),
            intrinsic_weights=self.weights.lerp(self.final_weights, self.competence).expand(batch, -1),
            critic_weights=top_state.new_full((batch, self.num_levels), self.critic_weight),
            goal=torch.zeros_like(top_state),
            has_goal=torch.zeros(batch, dtype=torch.bool, device=top_state.device),
        )
