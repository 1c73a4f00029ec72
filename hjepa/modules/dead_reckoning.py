"""An egocentric map kept from observations and own actions alone: the agent in the centre, looking up.

Turns always succeed; a step forward succeeds where the cell ahead can be stood on. Nothing of the
environment's inner state is used. Exact where nothing moves by itself; what does stays on the map where it
was last seen. The agent's own cell holds what it stands on, as seen before it stepped there. A second layer traces
in which headings the agent has been in each cell, the low half of a byte with empty hands and the high half with full
ones: the drive for new views depends on it, and a state without it cannot tell a first visit from a loop.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from hjepa.modules.cells import COLOURS, DOOR, EMPTY, FLOOR, GOAL, LAVA, STATES
from hjepa.types import Trajectory

LEFT, RIGHT, FORWARD = 0, 1, 2
"""MiniGrid's actions that move the agent; any other number, -1 included, leaves it where it is."""


UP = 1
"""Bit of the heading "as the agent looks now"; its doubles are right, back and left of it."""


def blank_map(batch: int, size: int, device: torch.device) -> UInt8[Tensor, "B 2 size size"]:
    """Nothing seen but the agent's own cell: MiniGrid starts every episode on an empty one. No trace."""
    layers = torch.zeros(batch, 2, size, size, dtype=torch.uint8, device=device)
    layers[:, 0, size // 2, size // 2] = EMPTY * COLOURS * STATES
    return layers


def passable(codes: UInt8[Tensor, "*B"]) -> Bool[Tensor, "*B"]:
    """Whether the agent can step on: empty, floor, goal, lava, or an open door. False where unseen."""
    cell_object = codes // (COLOURS * STATES)
    open_door = (cell_object == DOOR) & (codes % STATES == 0)
    ground = (cell_object == EMPTY) | (cell_object == FLOOR) | (cell_object == GOAL) | (cell_object == LAVA)
    return ground | open_door


def move(layers: UInt8[Tensor, "B 2 size size"], action: Int[Tensor, " B"]) -> UInt8[Tensor, "B 2 size size"]:
    """Map and trace around the agent after its action; cells that leave the map are forgotten."""
    centre = layers.shape[-1] // 2
    steps = (action == FORWARD) & passable(layers[:, 0, centre - 1, centre])
    shifted = torch.cat([torch.zeros_like(layers[..., :1, :]), layers[..., :-1, :]], -2)
    layers = torch.where(steps.view(-1, 1, 1, 1), shifted, layers)
    # When the agent turns left, what was on its left is ahead: the map turns clockwise.
    select = action.view(-1, 1, 1, 1)
    left = torch.stack([layers[:, 0].rot90(-1, (1, 2)), _turned(layers[:, 1], 1).rot90(-1, (1, 2))], 1)
    right = torch.stack([layers[:, 0].rot90(1, (1, 2)), _turned(layers[:, 1], 3).rot90(1, (1, 2))], 1)
    return torch.where(select == RIGHT, right, torch.where(select == LEFT, left, layers))


def _turned(trace: UInt8[Tensor, "*B"], quarters: int) -> UInt8[Tensor, "*B"]:
    """Headings after so many quarters clockwise, in both halves of the byte."""
    kept = 0x11 * ((0xF << quarters & 0xF) & 0xF)
    return (trace << quarters & kept) | (trace >> (4 - quarters) & (0xFF ^ kept))


def mirrored(trajectory: Trajectory) -> Trajectory:
    """What would have been seen, done and mapped in the mirror image of the world: left and right change places."""
    image = trajectory.observation.image.flip(-3)
    action = trajectory.previous_action
    turned = torch.where(action == LEFT, RIGHT, torch.where(action == RIGHT, LEFT, action))
    layers = trajectory.carries.flip(-1)
    trace = layers[:, :, 1]
    kept, sides = trace & 0x55, trace & 0xAA
    swapped = kept | (sides << 2 & 0x88) | (sides >> 2 & 0x22)
    layers = torch.stack([layers[:, :, 0], swapped], 2)
    observation = replace(trajectory.observation, image=image)
    return replace(trajectory, observation=observation, previous_action=turned, carries=layers)


def write_view(layers: UInt8[Tensor, "B 2 size size"], view: UInt8[Tensor, "B V W"]) -> UInt8[Tensor, "B 2 size size"]:
    """Put the visible cells of a packed view on the map, in place, all but the agent's own, and mark its pose.

    The agent's own cell shows what it carries, which must not stay behind on the map when the agent walks on.
    """
    rows, columns = view.shape[1:]
    centre = layers.shape[-1] // 2
    left = centre - columns // 2
    window = layers[:, 0, centre - rows + 1 : centre + 1, left : left + columns]
    seen = view != 0
    seen[:, -1, columns // 2] = False
    window.copy_(torch.where(seen, view, window))
    layers[:, 1, centre, centre] |= torch.where(full_hands(view), UP << 4, UP).to(torch.uint8)
    return layers


def full_hands(view: UInt8[Tensor, "B V W"]) -> Bool[Tensor, " B"]:
    """Whether the agent carries something: its own cell in the view then shows it."""
    return view[:, -1, view.shape[-1] // 2] // (COLOURS * STATES) > EMPTY


def trace_of(layers: UInt8[Tensor, "B 2 size size"], view: UInt8[Tensor, "B V W"]) -> UInt8[Tensor, "B size size"]:
    """Headings (4 bits, as the agent looks now) in which it was in each cell with its hands as full as now."""
    return layers[:, 1] >> 4 * full_hands(view)[:, None, None].to(torch.uint8) & 0xF
