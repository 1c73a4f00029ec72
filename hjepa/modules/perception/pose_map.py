"""Perception that writes views into an egocentric map by dead reckoning, and encodes the map."""

from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Perception
from hjepa.modules.cells import CellEncoder, pack
from hjepa.modules.dead_reckoning import HEADINGS, blank_map, move, trace_of, write_view
from hjepa.types import AgentSpec, Observation


class PoseMap(Perception):
    """State from a map of what was seen since the episode began; memory without recurrence in the gradient.

    `carry` is the map and the agent's trace on it, uint8 [B, 2, map_size, map_size] (`modules.dead_reckoning`). The
    state encodes the `crop` x `crop` cells around the agent, where it has been, and what it carries. ValueError if a
    view is too big.
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
            marks=HEADINGS,
        )
        self.norm = nn.LayerNorm(spec.levels[0].dim)

    def initial(self, batch: int, device: torch.device) -> UInt8[Tensor, "B 2 size size"]:
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
        carries: Tensor,
        tokens: Float[Tensor, "B T K C"],
    ) -> Float[Tensor, "B T D"]:
        # Nothing on the map is learned, so that every record starts from its own carry.
        fresh = self.initial(1, carries.device)
        layers = torch.where(is_first[..., None, None, None], fresh, carries).flatten(0, 1)
        view = pack(observation.image).flatten(0, 1)
        layers = write_view(move(layers, previous_action.flatten()), view)
        return self.norm(self.encoder(self._inputs(layers, view).unflatten(0, is_first.shape), tokens))

    def _inputs(self, layers: UInt8[Tensor, "B 2 size size"], view: UInt8[Tensor, "B V W"]) -> Int[Tensor, "B cells"]:
        """Codes and trace of the crop around the agent, then of what it shows in its own cell: the carried object."""
        inside = slice((self.map_size - self.crop) // 2, (self.map_size + self.crop) // 2)
        crop = layers[:, 0, inside, inside].int() * HEADINGS + trace_of(layers, view)[:, inside, inside]
        hands = view[:, -1, view.shape[-1] // 2, None].int() * HEADINGS
        return torch.cat([crop.flatten(1), hands], 1)
