"""Cells of a map in patches: what is near in full, what is farther in blocks, with one set of weights a patch."""

from collections.abc import Callable
from functools import reduce

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from hjepa.modules.cells import CellEmbedding
from hjepa.nets import MLP, FiLM

SIDE = 3
"""Cells on a side of a patch, and of a block."""
MARKS = 16
"""Of a cell: the headings in which the agent was there, as bits (`dead_reckoning.trace_of`). Of a block: two bits."""
VISITED, UNSEEN = 1, 2
"""Bits of a block's mark: the agent has been in it; some of it was never seen."""


def patches(cells: Int[Tensor, "*B R R"]) -> Int[Tensor, "*B P 9"]:
    """Square patches of `SIDE` x `SIDE` cells, row by row; R is a multiple of it."""
    count = cells.shape[-1] // SIDE
    grid = cells.unflatten(-1, (count, SIDE)).unflatten(-3, (count, SIDE))
    return grid.transpose(-2, -3).flatten(-2).flatten(-3, -2)


def blocks(codes: UInt8[Tensor, "B R R"], trace: UInt8[Tensor, "B R R"]) -> Int[Tensor, "B R_3 R_3"]:
    """`code * MARKS + mark` of every block of `SIDE` x `SIDE` cells: its most telling cell, the largest code, and a
    mark."""
    visited = (_pool(trace, torch.bitwise_or) > 0) * VISITED
    unseen = (_pool(codes, torch.minimum) == 0) * UNSEEN
    return _pool(codes, torch.maximum).int() * MARKS + visited + unseen


def _pool(cells: UInt8[Tensor, "B R R"], join: Callable[[Tensor, Tensor], Tensor]) -> UInt8[Tensor, "B R_3 R_3"]:
    """Blocks joined, rows first: adding slices is several times faster than reducing over short dimensions."""
    rows = cells.unflatten(1, (-1, SIDE)).unbind(2)
    columns = reduce(join, rows).unflatten(2, (-1, SIDE)).unbind(3)
    return reduce(join, columns)


class PatchEncoder(nn.Module):
    """Embeds patches of cells with shared weights, then mixes them in an MLP; task tokens modulate its first layer.

    Sharing makes what is learned of a door in one place hold in all others (as in ViT's patch embedding), and costs
    a third of a dense first layer.
    """

    def __init__(
        self, near: int, far: int, single: int, widths: tuple[int, int, int, int], layers: int, token_dim: int
    ) -> None:
        """`near` and `far` patches and `single` cells; widths of a cell, a patch, the hidden layers and the output."""
        super().__init__()
        cell_width, patch_width, hidden, outputs = widths
        self.embed = CellEmbedding(cell_width, MARKS)
        self.near, self.far, self.single = near, far, single
        self.near_patch = nn.Linear(SIDE**2 * cell_width, patch_width)
        self.far_patch = nn.Linear(SIDE**2 * cell_width, patch_width)
        width = (near + far) * patch_width + single * cell_width
        self.first = nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden))
        self.film = FiLM(token_dim, hidden)
        self.rest = nn.Sequential(nn.SiLU(), MLP(hidden, hidden, outputs, layers))

    def forward(self, cells: Int[Tensor, "*B cells"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B outputs"]:
        """Near patches, far patches, then single cells, all in one row of `code * MARKS + mark`."""
        embedded = self.embed(cells)
        sizes = (self.near * SIDE**2, self.far * SIDE**2, self.single)
        near, far, single = embedded.split(sizes, -2)
        near = nn.functional.silu(self.near_patch(near.unflatten(-2, (self.near, -1)).flatten(-2)))
        far = nn.functional.silu(self.far_patch(far.unflatten(-2, (self.far, -1)).flatten(-2)))
        joined = torch.cat((near.flatten(-2), far.flatten(-2), single.flatten(-2)), -1)
        return self.rest(self.film(self.first(joined), tokens))
