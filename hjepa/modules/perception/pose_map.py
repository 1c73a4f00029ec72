"""Perception that writes views into an egocentric map by dead reckoning, and encodes the map."""

from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Perception
from hjepa.modules.cells import pack
from hjepa.modules.dead_reckoning import blank_map, mirrored, move, trace_of, write_view
from hjepa.modules.patches import MARKS, SIDE, PatchEncoder, blocks, patches
from hjepa.types import AgentSpec, Observation, Trajectory


class PoseMap(Perception):
    """State from a map of what was seen since the episode began; memory without recurrence in the gradient.

    `carry` is the map and the agent's trace on it, uint8 [B, 2, map_size, map_size] (`modules.dead_reckoning`). The
    state encodes the cells near the agent one by one, what lies farther in blocks (as an eye's fovea and periphery),
    where it has been, and what it carries. ValueError if a view is too big.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "perception"
        kind: Literal["pose_map"] = "pose_map"
        map_size: int = Field(27, ge=13, le=255)
        """Columns and rows of the map; odd. What leaves it is forgotten."""
        crop: int = Field(9, ge=3, le=255)
        """Columns and rows near the agent that are encoded cell by cell: as far ahead as the view, the rest behind; an
        odd multiple of 3, at most `map_size`."""
        periphery: int = Field(27, ge=9, le=255)
        """Columns and rows around the agent that are encoded in blocks of 3 x 3; an odd multiple of 9, at most
        `map_size`."""
        cell_width: int = Field(8, gt=0)
        """Width of a cell's embedding."""
        patch_width: int = Field(16, gt=0)
        """Width of the features of 3 x 3 cells or blocks, which share their weights wherever they are."""
        hidden: int = Field(128, gt=0)
        """Width of the encoder's hidden layers. Half again the time of a window goes with twice the width."""
        layers: int = Field(1, ge=0)
        """Hidden layers after the first."""

        @field_validator("map_size")
        @classmethod
        def _map_is_centred(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError("must be odd, so that the agent is in the centre")
            return value

        @field_validator("crop")
        @classmethod
        def _crop_is_centred(cls, value: int) -> int:
            if value % 6 != 3:
                raise ValueError("must be an odd multiple of 3: patches of 3 x 3, the agent in the centre")
            return value

        @field_validator("periphery")
        @classmethod
        def _periphery_is_centred(cls, value: int) -> int:
            if value % 18 != 9:
                raise ValueError("must be an odd multiple of 9: patches of 3 x 3 blocks, the agent in the centre")
            return value

        @model_validator(mode="after")
        def _sizes_fit(self) -> Self:
            for name, size in (("crop", self.crop), ("periphery", self.periphery)):
                if size > self.map_size:
                    raise ValueError(f"{name} must be at most map_size ({self.map_size})")
            return self

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        columns, rows = spec.env.view
        if columns > config.map_size or 2 * rows - 1 > config.map_size:
            needed = max(columns, 2 * rows - 1)
            raise ValueError(
                f"map_size {config.map_size} is too small for a view of {columns} x {rows}: needs {needed}"
            )
        self.map_size, self.view_cells = config.map_size, columns * rows
        centre = config.map_size // 2
        self.sides = around(centre, config.crop)
        self.ahead = around(centre - max(rows - 1 - config.crop // 2, 0), config.crop)
        self.far = around(centre, config.periphery)
        self.encoder = PatchEncoder(
            (config.crop // SIDE) ** 2,
            (config.periphery // SIDE**2) ** 2,
            1,
            (config.cell_width, config.patch_width, config.hidden, spec.levels[0].dim),
            config.layers,
            spec.token_dim,
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
        # Nothing on the map is learned: what was brought to the next record is the map as this one left it, and only
        # the last record's must be drawn again.
        view = pack(observation.image)
        last = torch.where(is_first[:, -1, None, None, None], self.initial(1, carries.device), carries[:, -1])
        last = write_view(move(last, previous_action[:, -1]), view[:, -1])
        layers = torch.cat([carries[:, 1:], last[:, None]], 1).flatten(0, 1)
        cells = self._inputs(layers, view.flatten(0, 1))
        return self.norm(self.encoder(cells.unflatten(0, is_first.shape), tokens))

    def discovered(self, before: Tensor, after: Tensor) -> Float[Tensor, " B"]:
        known = [(layers[:, 0] > 0).sum((1, 2)) for layers in (before, after)]
        return (known[1] - known[0]).clamp_min(0) / self.view_cells

    def mirror(self, trajectory: Trajectory) -> Trajectory:
        return mirrored(trajectory)

    def _inputs(self, layers: UInt8[Tensor, "B 2 size size"], view: UInt8[Tensor, "B V W"]) -> Int[Tensor, "B cells"]:
        """Codes and trace of the near cells and of the blocks, patch by patch, then of what is in hand, which the
        agent's own cell in the view shows."""
        trace = trace_of(layers, view)
        near = layers[:, 0, self.ahead, self.sides].int() * MARKS + trace[:, self.ahead, self.sides]
        far = blocks(layers[:, 0, self.far, self.far], trace[:, self.far, self.far])
        hands = view[:, -1, view.shape[-1] // 2, None].int() * MARKS
        return torch.cat([patches(near).flatten(1), patches(far).flatten(1), hands], 1)


def around(centre: int, size: int) -> slice:
    """`size` columns or rows around one of them; `size` is odd."""
    return slice(centre - size // 2, centre + size // 2 + 1)
