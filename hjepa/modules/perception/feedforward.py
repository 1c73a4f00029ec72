"""Perception without memory: the present view alone."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Perception
from hjepa.modules.cells import CellEncoder, pack
from hjepa.types import AgentSpec, Observation


class Feedforward(Perception):
    """State from the view of this step; `carry` has zero width [B, 0]. The baseline for the others."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "perception"
        kind: Literal["feedforward"] = "feedforward"
        cell_width: int = Field(16, gt=0)
        """Width of a cell's embedding."""
        hidden: int = Field(128, gt=0)
        """Width of the encoder's hidden layers."""
        layers: int = Field(1, ge=0)
        """Hidden layers after the first."""

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        columns, rows = spec.env.view
        dim = spec.levels[0].dim
        self.encoder = CellEncoder(columns * rows, config.cell_width, config.hidden, config.layers, dim, spec.token_dim)
        self.norm = nn.LayerNorm(dim)

    def initial(self, batch: int, device: torch.device) -> Float[Tensor, "B 0"]:
        return torch.zeros(batch, 0, device=device)

    def forward(
        self,
        observation: Observation,
        previous_action: Int[Tensor, " B"],
        carry: Tensor,
        tokens: Float[Tensor, "B K C"],
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        return self.norm(self.encoder(pack(observation.image).flatten(-2), tokens)), carry

    def observe(
        self,
        observation: Observation,
        previous_action: Int[Tensor, "B T"],
        is_first: Bool[Tensor, "B T"],
        carries: Tensor,
        tokens: Float[Tensor, "B T K C"],
    ) -> Float[Tensor, "B T D"]:
        return self.norm(self.encoder(pack(observation.image).flatten(-2), tokens))
