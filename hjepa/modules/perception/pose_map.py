"""Perception that writes views into an egocentric map by dead reckoning, and encodes the map."""

from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Perception
from hjepa.modules.cells import CellEncoder, pack
from hjepa.modules.dead_reckoning import blank_map, move, write_view
from hjepa.types import AgentSpec, Observation


class PoseMap(Perception):
    """State from a map of what was seen since the episode began; memory without recurrence in the gradient.

    `carry` is the map, uint8 [B, map_size, map_size], one code a cell (`modules.cells`). The state
    encodes the `crop` x `crop` cells around the agent and what it carries. ValueError if a view is too big.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "perception"
        kind: Literal["pose_map"] = "pose_map"
        map_size: int = Field(25, ge=13, le=255)
        """Columns and rows of the map; odd. What leaves it is forgotten."""
        crop: int = Field(13, ge=3, le=255)
        """Columns and rows around the agent that are encoded; odd, at most `map_size`."""
        cell_width: int = Field(8, gt=0)
        """Width of a cell's embedding."""
        hidden: int = Field(128, gt=0)
        """Width of the encoder's hidden layers. Half again the time of a window goes with twice the width."""
        layers: int = Field(1, ge=0)
        """Hidden layers after the first."""

        @field_validator("map_size", "crop")
        @classmethod
        def _odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError("must be odd, so that the agent is in the centre")
            return value

        @model_validator(mode="after")
        def _crop_fits(self) -> Self:
            if self.crop > self.map_size:
                raise ValueError(f"crop must be at most map_size ({self.map_size})")
            return self

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        columns, rows = spec.env.view
        if columns > config.map_size or 2 * rows - 1 > config.map_size:
            needed = max(columns, 2 * rows - 1)
            raise ValueError(
                f"map_size {config.map_size} is too small for a view of {columns} x {rows}: needs {needed}"
            )
        self.map_size = config.map_size
        self.crop = config.crop
        self.encoder = CellEncoder(
            config.crop**2 + 1,
            config.cell_width,
            config.hidden,
            config.layers,
            spec.levels[0].dim,
            spec.token_dim,
        )
        self.norm = nn.LayerNorm(spec.levels[0].dim)

    def initial(self, batch: int, device: torch.device) -> UInt8[Tensor, "B size size"]:
        return blank_map(batch, self.map_size, device)

    def forward(
        self,
        observation: Observation,
        previous_action: Int[Tensor, " B"],
        carry: Tensor,
        tokens: Float[Tensor, "B K C"],
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        view = pack(observation.image)
        carry = write_view(move(carry, previous_action), view)
        return self.norm(self.encoder(self._inputs(carry, view), tokens)), carry

    def observe(
        self,
        observation: Observation,
        previous_action: Int[Tensor, "B T"],
        is_first: Bool[Tensor, "B T"],
        carry: Tensor,
        tokens: Float[Tensor, "B T K C"],
    ) -> tuple[Float[Tensor, "B T D"], Tensor]:
        views = pack(observation.image)
        fresh = self.initial(is_first.shape[0], is_first.device)
        inputs = []
        for t in range(is_first.shape[1]):
            carry = torch.where(is_first[:, t, None, None], fresh, carry)
            carry = write_view(move(carry, previous_action[:, t]), views[:, t])
            inputs.append(self._inputs(carry, views[:, t]))
        return self.norm(self.encoder(torch.stack(inputs, 1), tokens)), carry

    def _inputs(self, cells: UInt8[Tensor, "B size size"], view: UInt8[Tensor, "B V W"]) -> UInt8[Tensor, "B cells"]:
        """Codes of the crop around the agent, then of what it shows in its own cell: the carried object."""
        start = (self.map_size - self.crop) // 2
        crop = cells[:, start : start + self.crop, start : start + self.crop]
        hands = view[:, -1, view.shape[-1] // 2]
        return torch.cat([crop.flatten(1), hands[:, None]], 1)
