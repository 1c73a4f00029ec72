"""The map kept by dead reckoning is exact, and the perception built on it."""

import gymnasium
import minigrid  # noqa: F401
import numpy as np
import pytest
import torch
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, OBJECT_TO_IDX

from hjepa.modules.cells import pack, unpack
from hjepa.modules.dead_reckoning import UP, blank_map, move, trace_of, write_view

SIZE = 25
EMPTY_CELL = (OBJECT_TO_IDX["empty"], 0, 0)
WALL_CELL = (OBJECT_TO_IDX["wall"], COLOR_TO_IDX["grey"], 0)


def true_cell(env, position):
    """What the environment really holds at a place, encoded as in a view."""
    column, row = position
    if not (0 <= column < env.grid.width and 0 <= row < env.grid.height):
        return WALL_CELL  # MiniGrid shows what lies outside the grid as walls
    content = env.grid.get(column, row)
    return EMPTY_CELL if content is None else content.encode()


def assert_map_is_true(env, cells):
    """Every cell of the map that was ever seen equals the environment's own, relative to the agent's pose."""
    known = unpack(cells).numpy()
    forward = DIR_TO_VEC[env.agent_dir]
    right = DIR_TO_VEC[(env.agent_dir + 1) % 4]
    for row, column in np.argwhere(known[..., 0] > 0):
        position = np.array(env.agent_pos) + (SIZE // 2 - row) * forward + (column - SIZE // 2) * right
        assert tuple(known[row, column]) == true_cell(env, position), (row, column)


@pytest.mark.parametrize(
    "env_id",
    [
        "DoorKey-8x8",
        "MultiRoom-N6",
        "KeyCorridorS3R3",
        "FourRooms",
        "LavaCrossingS9N2",
        "BlockedUnlockPickup",
    ],
)
def test_dead_reckoning_and_trace_are_exact(env_id):
    env = gymnasium.make(f"MiniGrid-{env_id}-v0", max_steps=200)
    actions = np.random.default_rng(0)
    cells, previous, seed, moves, carried = None, -1, 0, 0, 0
    for step in range(1600):
        if cells is None:
            observation, _ = env.reset(seed=seed)
            poses: set[tuple] = set()
            cells, previous, seed = blank_map(1, SIZE, torch.device("cpu")), -1, seed + 1
        position = tuple(env.unwrapped.agent_pos)
        view = pack(torch.from_numpy(observation["image"])[None])
        moved = move(cells, torch.tensor([previous]))
        pose = (position, env.unwrapped.agent_dir, env.unwrapped.carrying is not None)
        assert bool(trace_of(moved, view)[0, SIZE // 2, SIZE // 2] & UP) == (pose in poses)
        poses.add(pose)
        cells = write_view(moved, view)
        if step % 8 == 0:
            assert_map_is_true(env.unwrapped, cells[0, 0])
        carried += env.unwrapped.carrying is not None
        # Mostly forward, so that the walk covers ground; the rest picks up, drops and opens.
        previous = int(actions.choice(7, p=[0.15, 0.15, 0.4, 0.1, 0.05, 0.14, 0.01]))
        observation, _, terminated, truncated, _ = env.step(previous)
        moves += tuple(env.unwrapped.agent_pos) != position
        if terminated or truncated:
            cells = None
    assert moves > 100
    assert carried > 0 or env_id in ("MultiRoom-N6", "FourRooms", "LavaCrossingS9N2")
