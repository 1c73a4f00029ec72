"""Where the agent is since its episode began, by dead reckoning from what it saw and did. Diagnosis only.

Turns are certain in MiniGrid; a step forward succeeds where the cell ahead can be entered. No inner state
of the environment is looked at. Assumes MiniGrid's actions 0 (left), 1 (right) and 2 (forward).
"""

import torch
from jaxtyping import Bool, Int, UInt8
from minigrid.core.constants import OBJECT_TO_IDX, STATE_TO_IDX
from torch import Tensor

from hjepa.envs.vector import Record

LEFT, RIGHT, FORWARD = range(3)
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Step of each direction in columns and rows, numbered as in MiniGrid; 0 is where the agent looks at the
start."""
ENTERED = tuple(OBJECT_TO_IDX[name] for name in ("empty", "floor", "goal", "lava"))


class PoseTracker:
    """Poses [B, 3]: columns and rows from the start, in the frame in which the agent first looked along
    +columns, and the direction."""

    def __init__(self) -> None:
        self._pose: Tensor | None = None
        self._image: Tensor | None = None

    def update(self, record: Record) -> Int[Tensor, "B 3"]:
        """The pose at this record, which must be the next of each row."""
        pose = torch.zeros(len(record.is_first), 3, dtype=torch.int64, device=record.image.device)
        if self._pose is not None and self._image is not None:
            moved = step(self._pose, self._image, record.previous_action)
            pose = torch.where(record.is_first[:, None], pose, moved)
        self._pose, self._image = pose, record.image
        return pose


def step(pose: Int[Tensor, "B 3"], image: UInt8[Tensor, "B W V 3"], action: Int[Tensor, " B"]) -> Int[Tensor, "B 3"]:
    """The pose after `action`, which was taken at `pose` where the agent saw `image`."""
    position, direction = pose[:, :2], pose[:, 2]
    table = torch.tensor(DIRECTIONS, device=pose.device)
    moves = (action == FORWARD) & can_enter(image)
    position = position + table[direction] * moves[:, None]
    turn = (action == RIGHT).long() - (action == LEFT).long()
    return torch.cat([position, ((direction + turn) % 4)[:, None]], 1)


def can_enter(image: UInt8[Tensor, "B W V 3"]) -> Bool[Tensor, " B"]:
    """Whether the cell ahead of the agent is free, a goal, lava or an open door."""
    ahead = image[:, image.shape[1] // 2, image.shape[2] - 2].long()
    free = torch.isin(ahead[:, 0], torch.tensor(ENTERED, device=image.device))
    open_door = (ahead[:, 0] == OBJECT_TO_IDX["door"]) & (ahead[:, 2] == STATE_TO_IDX["open"])
    return free | open_door


def to_grid(start: tuple[int, int, int], offset: tuple[float, float]) -> tuple[float, float]:
    """Column and row in the true grid of an offset in the episode's own frame; `start` is the true first
    pose."""
    column, row, direction = start
    (east, south), (right_east, right_south) = DIRECTIONS[direction], DIRECTIONS[(direction + 1) % 4]
    forward, right = offset
    return column + forward * east + right * right_east, row + forward * south + right * right_south
