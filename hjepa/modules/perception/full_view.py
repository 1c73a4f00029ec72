"""Perception of a grid that is seen whole: where the agent is, what is around it, and the lie of the land."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.cost import AGENT, hash_of
from hjepa.interfaces import Perception
from hjepa.modules.cell_context import CellContext
from hjepa.modules.cells import COLOURS, EMPTY, STATES, CellEmbedding, pack
from hjepa.nets import MLP, FiLM, one_hot
from hjepa.types import AgentSpec, Observation

DIRECTIONS = 4


class FullView(Perception):
    """State from MiniGrid's full observation, in which the agent is a cell like any other.

    One moving cell among hundreds is soon lost in one vector of all cells, so the state has four parts, each
    layer-normed, so that none can crowd another out: the place, from the agent's column and row; the heading, from its
    direction; the surroundings, from the cells around it as it looks; and the ground, from the grid without the agent.
    If asked for, a fifth before the last: the context, what convolutions over that grid make of the agent's cell.
    Where no agent is seen all but the last are from blanks. `carry` has zero width [B, 0].
    """

    class Config(ModuleConfig):
        """Settings of the perception of a full view."""

        slot: ClassVar[str] = "perception"
        kind: Literal["full_view"] = "full_view"
        cell_width: int = Field(8, gt=0)
        """Width of a cell's embedding."""
        around: int = Field(4, ge=0, le=16)
        """Cells to each side of the agent that it sees on their own."""
        blur: float = Field(1.5, gt=0)
        """Width, in cells, of the bumps that tell column and row: neighbours look alike from the start."""
        heading: float = Field(0.1, gt=0, lt=1)
        """Share of the level's width that tells the agent's direction."""
        near: float = Field(0.3, gt=0, lt=1)
        """Share that tells the cells around it."""
        context: float = Field(0.0, ge=0, lt=1)
        """Share that tells what its cell is to the whole grid, by convolutions; 0 for none."""
        ground: float = Field(0.2, gt=0, lt=1)
        """Share that tells the grid without the agent; the place has what these leave."""
        channels: int = Field(16, gt=0)
        """Channels of these, at the grid's own size."""
        hidden: int = Field(256, gt=0)
        """Width of the hidden layers."""
        layers: int = Field(2, ge=0)
        """Hidden layers."""

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        """Raises ValueError where the grid's part leaves nothing of the state."""
        super().__init__()
        self.columns, self.rows = spec.env.view
        self.around, self.blur = config.around, config.blur
        dim = spec.levels[0].dim
        widths = [max(1, round(share * dim)) for share in (config.heading, config.near, config.ground)]
        context = round(config.context * dim)
        place = dim - sum(widths) - context
        if place <= 0:
            raise ValueError(
                f"heading, near, context and ground must leave something of levels.0.dim for the place (got {place})"
            )
        cell, hidden, layers = config.cell_width, config.hidden, config.layers
        self.near_cells, self.ground_cells = CellEmbedding(cell), CellEmbedding(cell)
        self.place = MLP(self.columns + self.rows, hidden, place, layers)
        self.heading = nn.Linear(DIRECTIONS, widths[0])
        self.near = MLP((2 * config.around + 1) ** 2 * cell, hidden, widths[1], layers)
        self.ground = nn.Linear(self.columns * self.rows * cell, widths[2])
        self.context = CellContext(cell, config.channels, context) if context else None
        self.film = FiLM(spec.token_dim, spec.levels[0].dim)

    def initial(self, batch: int, device: torch.device) -> Float[Tensor, "B 0"]:
        return torch.zeros(batch, 0, device=device)

    def forward(
        self,
        observation: Observation,
        previous_action: Int[Tensor, " B"],
        carry: Tensor,
        tokens: Float[Tensor, "B K C"],
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        return self._encode(pack(observation.image), tokens), carry

    def observe(
        self,
        observation: Observation,
        previous_action: Int[Tensor, "B T"],
        is_first: Bool[Tensor, "B T"],
        carries: Tensor,
        tokens: Float[Tensor, "B T K C"],
    ) -> Float[Tensor, "B T D"]:
        flat = self._encode(pack(observation.image).flatten(0, 1), tokens.flatten(0, 1))
        return flat.unflatten(0, is_first.shape)

    def _encode(self, cells: UInt8[Tensor, "R V W"], tokens: Float[Tensor, "R K C"]) -> Float[Tensor, "R D"]:
        # The agent's code is AGENT * COLOURS * STATES plus STATES times its direction.
        own = (cells.int() - AGENT * COLOURS * STATES).flatten(1)
        place = own.argmax(1)
        direction = own.gather(1, place[:, None]).squeeze(1) // STATES
        seen = direction >= 0
        ground = torch.where(own >= 0, EMPTY * COLOURS * STATES, cells.flatten(1)).view_as(cells)
        row, column = place // self.columns, place % self.columns
        where = torch.cat((bump(column, self.columns, self.blur), bump(row, self.rows, self.blur)), -1)
        near = self.near_cells(self._crop(ground, row, column, direction.clamp_min(0))).flatten(1)
        seen = seen[:, None]
        heading = self.heading(one_hot(direction, DIRECTIONS) * seen)
        parts = [self.place(where * seen), heading, self.near(near * seen)]
        # An episode mostly shows the same grid: it is worked out once for all rows that do.
        first, number = alike(ground.flatten(1))
        kinds = self.ground_cells(ground[first])
        if self.context is not None:
            parts.append(self.context(kinds)[number, row, column] * seen)
        parts.append(self.ground(kinds.flatten(1))[number])
        return self.film(torch.cat([F.layer_norm(part, part.shape[-1:]) for part in parts], -1), tokens)

    def _crop(
        self,
        ground: UInt8[Tensor, "R V W"],
        row: Int[Tensor, " R"],
        column: Int[Tensor, " R"],
        direction: Int[Tensor, " R"],
    ) -> UInt8[Tensor, "R near"]:
        """The cells around the agent, turned so that it looks up; 0, unseen, beyond the grid.

        What lies ahead is then in the same place whichever way it looks: what was learned of one gap holds for all.
        """
        reach = self.around
        padded = F.pad(ground, (reach, reach, reach, reach))
        steps = torch.arange(-reach, reach + 1, device=ground.device)
        ahead, aside = (part.flatten() for part in torch.meshgrid(-steps, steps, indexing="ij"))
        east = torch.tensor((1, 0, -1, 0), device=ground.device)[direction][:, None]
        south = torch.tensor((0, 1, 0, -1), device=ground.device)[direction][:, None]
        columns = column[:, None] + reach + ahead * east - aside * south
        rows = row[:, None] + reach + ahead * south + aside * east
        return padded.flatten(1).gather(1, rows * padded.shape[-1] + columns)


def alike(rows: UInt8[Tensor, "R N"]) -> tuple[Int[Tensor, " K"], Int[Tensor, " R"]]:
    """One of each of the different rows, and of each row the number of that which it is like; to sort hashes is quicker
    than to sort rows."""
    kinds, number = hash_of(rows).unique(return_inverse=True)
    last = torch.arange(len(rows), device=rows.device)
    return torch.zeros_like(kinds).scatter_reduce_(0, number, last, "amax"), number


def bump(index: Int[Tensor, "*B"], size: int, width: float) -> Float[Tensor, "*B size"]:
    """A Gaussian bump around each index: a population code, in which near numbers are near."""
    places = torch.arange(size, device=index.device)
    return torch.exp(-0.5 * ((places - index[..., None]) / width).square())
