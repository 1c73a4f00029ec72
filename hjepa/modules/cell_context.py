"""What a cell is to the whole grid: convolutions, coarser and back, so that each cell is told of all others."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class CellContext(nn.Module):
    """Features of each cell of a grid, in which the whole grid has a say (U-Net, Ronneberger et al. 2015).

    Twice halved and back with skips, in between residual blocks that reach from one end of the coarse grid to the
    other. Where walls and gaps are, and which lies beyond which, is then learned once for all places: a map of all
    cells into one vector has to learn it for each (behind doors critics on that were off by 1.6 steps on new layouts,
    whatever the map; on this by 0.9). Columns and rows are seen as two channels (CoordConv, Liu et al. 2018).
    """

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs + 2, width, 3, padding=1)
        self.fine = Residual(width)
        self.halve = nn.Conv2d(width, 2 * width, 3, 2, padding=1)
        self.middle = Residual(2 * width)
        self.quarter = nn.Conv2d(2 * width, 4 * width, 3, 2, padding=1)
        self.coarse = nn.Sequential(*(Residual(4 * width) for _ in range(3)))
        self.widen = nn.Conv2d(4 * width, 2 * width, 3, padding=1)
        self.middle_again = Residual(2 * width)
        self.widen_again = nn.Conv2d(2 * width, width, 3, padding=1)
        self.fine_again = Residual(width)
        self.leave = nn.Conv2d(width, outputs, 1)

    def forward(self, cells: Float[Tensor, "K V W E"]) -> Float[Tensor, "K V W outputs"]:
        places = (torch.linspace(-1, 1, size, device=cells.device) for size in cells.shape[1:3])
        position = torch.stack(torch.meshgrid(*places, indexing="ij"), -1).expand(len(cells), -1, -1, -1)
        # Cells with their features side by side are what convolutions on the CPU are quickest with.
        grid = torch.cat((cells, position), -1).permute(0, 3, 1, 2)
        fine = self.fine(self.enter(grid))
        middle = self.middle(self.halve(fine))
        coarse = self.coarse(self.quarter(middle))
        middle = self.middle_again(self.widen(F.interpolate(coarse, size=middle.shape[-2:])) + middle)
        fine = self.fine_again(self.widen_again(F.interpolate(middle, size=fine.shape[-2:])) + fine)
        return self.leave(fine).permute(0, 2, 3, 1)


class Residual(nn.Module):
    """x + two convolutions of normalised x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "K E V W"]) -> Float[Tensor, "K E V W"]:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))
