"""Cells of the grid as the agent sees them: one byte each, and embeddings that every perception uses."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from hjepa.cost import AGENT
from hjepa.nets import MLP, FiLM

OBJECTS, COLOURS, STATES = 11, 6, 3
"""How many MiniGrid has of each; every triple fits one byte."""
CODES = OBJECTS * COLOURS * STATES

WALL, EMPTY, FLOOR, DOOR, GOAL, LAVA = 1, 2, 3, 4, 8, 9
"""MiniGrid's object numbers, with wall and empty ground exchanged: a larger number tells more of a place, from unseen
cells (0) on. All but the wall can be stood on (a door when open, state 0)."""


def pack(image: UInt8[Tensor, "*B W V 3"]) -> UInt8[Tensor, "*B V W"]:
    """One code a cell, rows first so that the agent looks up; 0 where unseen. Unknown numbers are clamped.

    The agent's state is its direction, one of four and so too many for a state; it takes the place of its colour.
    """
    cell_object = image[..., 0].clamp(max=OBJECTS - 1)
    is_agent = cell_object == AGENT
    colour = torch.where(is_agent, image[..., 2], image[..., 1]).clamp(max=COLOURS - 1)
    state = torch.where(is_agent, 0, image[..., 2]).clamp(max=STATES - 1)
    cell_object = _exchanged(cell_object)
    codes = (cell_object * COLOURS + colour) * STATES + state
    return torch.where(cell_object == 0, 0, codes).transpose(-1, -2)


def unpack(codes: UInt8[Tensor, "*B"]) -> UInt8[Tensor, "*B 3"]:
    """Object, colour and state of each code."""
    parts = (_exchanged(codes // (COLOURS * STATES)), codes // STATES % COLOURS, codes % STATES)
    return torch.stack(parts, -1)


def _exchanged(cell_object: UInt8[Tensor, "*B"]) -> UInt8[Tensor, "*B"]:
    """MiniGrid's object numbers to ours and back."""
    either = (cell_object == WALL) | (cell_object == EMPTY)
    return torch.where(either, WALL + EMPTY - cell_object, cell_object)


class CellEmbedding(nn.Module):
    """Embedding of a cell: the sum of those of its object, colour, state and mark, `width` wide.

    A mark, one of `marks`, is what the caller knows of a cell beside its code; a cell is `code * marks + mark`.
    """

    def __init__(self, width: int, marks: int = 1) -> None:
        super().__init__()
        self.object = nn.Parameter(torch.randn(OBJECTS, width) * 0.5)
        self.colour = nn.Parameter(torch.randn(COLOURS, width) * 0.5)
        self.state = nn.Parameter(torch.randn(STATES, width) * 0.5)
        self.mark = nn.Parameter(torch.randn(marks, width) * 0.5)

    def forward(self, cells: Int[Tensor, "*B"]) -> Float[Tensor, "*B E"]:
        # All sums are tabled first: one look-up a cell instead of three. On the CPU the backward pass of
        # `index_select` with 64-bit numbers takes a quarter of the time of that with 32-bit ones or of `embedding`'s.
        sums = (self.object[:, None, None] + self.colour[:, None] + self.state).flatten(0, 2)
        sums = (sums[:, None] + self.mark).flatten(0, 1)
        return sums.index_select(0, cells.long().flatten()).unflatten(0, cells.shape)


class CellEncoder(nn.Module):
    """Embeds a fixed number of cells and mixes them in an MLP; task tokens modulate its first layer."""

    def __init__(
        self, cells: int, cell_width: int, hidden: int, layers: int, outputs: int, token_dim: int, marks: int = 1
    ) -> None:
        super().__init__()
        self.embed = CellEmbedding(cell_width, marks)
        self.first = nn.Sequential(nn.Linear(cells * cell_width, hidden), nn.LayerNorm(hidden))
        self.film = FiLM(token_dim, hidden)
        self.rest = nn.Sequential(nn.SiLU(), MLP(hidden, hidden, outputs, layers))

    def forward(self, codes: Int[Tensor, "*B cells"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B outputs"]:
        """Flattened `codes` of `pack`, times `marks` plus the mark where there are any."""
        return self.rest(self.film(self.first(self.embed(codes).flatten(-2)), tokens))
