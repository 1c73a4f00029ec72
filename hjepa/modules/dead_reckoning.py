"""An egocentric map kept from observations and own actions alone: the agent in the centre, looking up.

Turns always succeed; a step forward succeeds where the cell ahead can be stood on. Nothing of the
environment's inner state is used. Exact where nothing moves by itself; what does stays on the map where it
was last seen. The agent's own cell holds what it stands on, as seen before it stepped there.
"""

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from hjepa.modules.cells import COLOURS, DOOR, EMPTY, FLOOR, GOAL, LAVA, STATES

LEFT, RIGHT, FORWARD = 0, 1, 2
"""MiniGrid's actions that move the agent; any other number, -1 included, leaves it where it is."""


def blank_map(batch: int, size: int, device: torch.device) -> UInt8[Tensor, "B size size"]:
    """Nothing seen but the agent's own cell: MiniGrid starts every episode on an empty one."""
    cells = torch.zeros(batch, size, size, dtype=torch.uint8, device=device)
    cells[:, size // 2, size // 2] = EMPTY * COLOURS * STATES
    return cells


def passable(codes: UInt8[Tensor, "*B"]) -> Bool[Tensor, "*B"]:
    """Whether the agent can step on: empty, floor, goal, lava, or an open door. False where unseen."""
    cell_object = codes // (COLOURS * STATES)
    open_door = (cell_object == DOOR) & (codes % STATES == 0)
    ground = (cell_object == EMPTY) | (cell_object == FLOOR) | (cell_object == GOAL) | (cell_object == LAVA)
    return ground | open_door


def move(cells: UInt8[Tensor, "B size size"], action: Int[Tensor, " B"]) -> UInt8[Tensor, "B size size"]:
    """The map around the agent after its action; cells that leave the map are forgotten."""
    centre = cells.shape[-1] // 2
    steps = (action == FORWARD) & passable(cells[:, centre - 1, centre])
    shifted = torch.cat([torch.zeros_like(cells[:, :1]), cells[:, :-1]], 1)
    select = action.view(-1, 1, 1)
    cells = torch.where(steps.view(-1, 1, 1), shifted, cells)
    # When the agent turns left, what was on its left is ahead: the map turns clockwise.
    turned = torch.where(select == LEFT, cells.rot90(-1, (1, 2)), cells)
    return torch.where(select == RIGHT, cells.rot90(1, (1, 2)), turned)


def write_view(cells: UInt8[Tensor, "B size size"], view: UInt8[Tensor, "B V W"]) -> UInt8[Tensor, "B size size"]:
    """Put the visible cells of a packed view on the map, in place, all but the agent's own.

    The agent's own cell shows what it carries, which must not stay behind on the map when the agent walks on.
    """
    rows, columns = view.shape[1:]
    centre = cells.shape[-1] // 2
    left = centre - columns // 2
    window = cells[:, centre - rows + 1 : centre + 1, left : left + columns]
    seen = view != 0
    seen[:, -1, columns // 2] = False
    window.copy_(torch.where(seen, view, window))
    return cells
