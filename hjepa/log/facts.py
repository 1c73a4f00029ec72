"""What is true in the environments behind the partial view. It goes to probes and pictures only, never to the agent."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from minigrid.core.constants import COLOR_TO_IDX, IDX_TO_COLOR, IDX_TO_OBJECT, OBJECT_TO_IDX, STATE_TO_IDX
from torch import Tensor

from hjepa.envs.vector import Record
from hjepa.types import TensorStruct

DOORWAY = 0
"""Room number of doors, and of free cells with walls on two opposite sides."""
NO_DOOR = -1


@dataclass(frozen=True)
class Facts(TensorStruct):
    """The true state of environments, as small whole numbers; `*B` any batch shape."""

    column: Int[Tensor, "*B"]
    row: Int[Tensor, "*B"]
    direction: Int[Tensor, "*B"]
    """As in MiniGrid: 0 looks along +columns, 1 along +rows."""
    carried: Int[Tensor, "*B"]
    """0 for nothing, else 1 + object * 6 + colour."""
    door: Int[Tensor, "*B"]
    """State of the door nearest to the agent, as MiniGrid numbers them; -1 where there is none."""
    goal_in_view: Int[Tensor, "*B"]
    room: Int[Tensor, "*B"]
    """Rooms are numbered from 1 in reading order, as divided by walls and doors; 0 is a doorway."""

    def classes(self, name: str) -> Int[Tensor, "*B"]:
        """One fact of `sample_tags.FACTS` as a class number; positions are numbered cell by cell."""
        return self.column + 64 * self.row if name == "position" else getattr(self, name)


class FactReader:
    """Reads the facts of a batch of environments, step by step."""

    def __init__(self, envs: Sequence[Any]) -> None:
        self._envs = [env.unwrapped for env in envs]
        self._rooms = [np.zeros((0, 0), dtype=np.int64) for _ in envs]

    def read(self, record: Record) -> Facts:
        """Facts [B] at the record that the environments have just given."""
        for row in record.is_first.nonzero().flatten().tolist():
            self._rooms[row] = rooms(self._envs[row].grid)
        pairs = zip(self._envs, self._rooms, strict=True)
        columns = torch.tensor([_facts(world, map_) for world, map_ in pairs]).unbind(1)
        column, row, direction, carried, door, room = columns
        goal = (record.image[..., 0] == OBJECT_TO_IDX["goal"]).flatten(1).any(1).long()
        return Facts(column, row, direction, carried, door, goal, room)


def carried_name(number: int) -> str:
    """Colour and kind of a carried object, from its number."""
    if number == 0:
        return "nothing"
    kind, color = divmod(number - 1, len(COLOR_TO_IDX))
    return f"{IDX_TO_COLOR[color]} {IDX_TO_OBJECT[kind]}"


def door_name(number: int) -> str:
    """State of a door, from its number."""
    return {state: name for name, state in STATE_TO_IDX.items()}.get(number, "no door")


def rooms(grid: Any) -> Int[np.ndarray, "W V"]:
    """Room number of every cell of a MiniGrid grid, indexed [column, row]; 0 for walls and doorways."""
    free = np.array([[_kind(grid, i, j) != "wall" for j in range(grid.height)] for i in range(grid.width)])
    inside = free & ~_doorways(grid, free)
    labels = np.zeros(free.shape, dtype=np.int64)
    for row in range(grid.height):
        for column in range(grid.width):
            if inside[column, row] and labels[column, row] == 0:
                _flood(inside, labels, (column, row), int(labels.max()) + 1)
    return labels


def _facts(world: Any, room_map: Int[np.ndarray, "W V"]) -> tuple[int, ...]:
    column, row = (int(place) for place in world.agent_pos)
    held = world.carrying
    carried = 0 if held is None else 1 + OBJECT_TO_IDX[held.type] * len(COLOR_TO_IDX) + COLOR_TO_IDX[held.color]
    return (
        column,
        row,
        int(world.agent_dir),
        carried,
        _nearest_door(world.grid, column, row),
        int(room_map[column, row]),
    )


def _nearest_door(grid: Any, column: int, row: int) -> int:
    doors = [
        (abs(place % grid.width - column) + abs(place // grid.width - row), int(item.encode()[2]))
        for place, item in enumerate(grid.grid)
        if item is not None and item.type == "door"
    ]
    return min(doors)[1] if doors else NO_DOOR


def _doorways(grid: Any, free: Bool[np.ndarray, "W V"]) -> Bool[np.ndarray, "W V"]:
    found = np.zeros_like(free)
    for column in range(1, grid.width - 1):
        for row in range(1, grid.height - 1):
            across = not free[column - 1, row] and not free[column + 1, row]
            along = not free[column, row - 1] and not free[column, row + 1]
            found[column, row] = across or along or _kind(grid, column, row) == "door"
    return found & free


def _flood(inside: Bool[np.ndarray, "W V"], labels: np.ndarray, start: tuple[int, int], number: int) -> None:
    waiting = deque([start])
    labels[start] = number
    while waiting:
        for place in _neighbours(*waiting.popleft()):
            if inside[place] and labels[place] == 0:
                labels[place] = number
                waiting.append(place)


def _neighbours(column: int, row: int) -> Iterator[tuple[int, int]]:
    # Every grid has a wall around it, so that no neighbour of an inner cell lies outside.
    yield from ((column - 1, row), (column + 1, row), (column, row - 1), (column, row + 1))


def _kind(grid: Any, column: int, row: int) -> str:
    item = grid.get(column, row)
    return "empty" if item is None else item.type
