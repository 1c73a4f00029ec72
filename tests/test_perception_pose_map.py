"""The map kept by dead reckoning is exact, and the perception built on it."""

import gymnasium
import minigrid  # noqa: F401
import numpy as np
import pytest
import torch
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, OBJECT_TO_IDX

from hjepa.envs.vector import VectorEnv
from hjepa.modules.cells import EMPTY, WALL, pack, unpack
from hjepa.modules.dead_reckoning import UP, blank_map, move, trace_of, write_view
from hjepa.modules.patches import MARKS, UNSEEN, VISITED, blocks, patches
from hjepa.modules.perception.pose_map import PoseMap
from hjepa.types import AgentSpec, EnvSpec, LevelSpec, Observation, Trajectory

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


def played(steps, rows=4):
    """Windows of random play, with the carries that a pose map brings to each record, and the module."""
    torch.manual_seed(0)
    level = LevelSpec(0, 16, 4, 16, 7, 1, 1, 1, 7, 7, 16, 1, 0, 0.98)
    spec = AgentSpec(EnvSpec("MiniGrid-DoorKey-8x8-v0", 7, (7, 7), 640), (level,), ("task",), (False,), 0, 0.98)
    module = PoseMap(PoseMap.Config(), spec)
    env = VectorEnv("MiniGrid-DoorKey-8x8-v0", rows, lambda row, episode: 100 * row + episode)
    record, carry, kept = env.step(torch.zeros(rows, dtype=torch.int64)), module.initial(rows, torch.device("cpu")), []
    for _ in range(steps):
        kept.append((record.image, record.mission, record.previous_action, record.is_first, carry))
        observation = Observation(record.image, record.mission)
        carry = torch.where(record.is_first.view(-1, 1, 1, 1), module.initial(1, carry.device), carry)
        _, carry = module(observation, record.previous_action, carry, torch.zeros(rows, 0, 0))
        record = env.step(torch.randint(0, 4, (rows,)))
    image, mission, action, is_first, carries = (torch.stack(parts, 1) for parts in zip(*kept, strict=True))
    none = torch.zeros_like(is_first)
    energies = torch.zeros(*none.shape, 1)
    return module, Trajectory(Observation(image, mission), action, energies, is_first, none, none, carries)


def stepped(module, trajectory):
    """States from the first carry, record by record."""
    states, carry = [], trajectory.carries[:, 0]
    for time in range(trajectory.is_first.shape[1]):
        here = trajectory[:, time]
        carry = torch.where(here.is_first.view(-1, 1, 1, 1), module.initial(1, carry.device), carry)
        state, carry = module(here.observation, here.previous_action, carry, torch.zeros(len(carry), 0, 0))
        states.append(state)
    return torch.stack(states, 1)


def test_the_mirror_image_of_experience_is_experience():
    """Dead reckoning over mirrored views and actions comes to the mirrored maps; twice is where it began."""
    module, trajectory = played(40)
    mirrored = module.mirror(trajectory)
    assert not torch.equal(mirrored.carries, trajectory.carries)
    tokens = torch.zeros(*trajectory.is_first.shape, 0, 0)
    arguments = (mirrored.observation, mirrored.previous_action, mirrored.is_first, mirrored.carries)
    torch.testing.assert_close(module.observe(*arguments, tokens), stepped(module, mirrored))
    for again, first in zip(module.mirror(mirrored).tensors(), trajectory.tensors(), strict=True):
        assert torch.equal(again, first)


def test_discovered_is_what_the_map_gained():
    module, trajectory = played(12)
    first = trajectory[:, 0]
    _, after = module(first.observation, first.previous_action, first.carries, torch.zeros(4, 0, 0))
    seen = (pack(first.observation.image) > 0).flatten(1).sum(1)
    # The agent's own cell was on the blank map already.
    torch.testing.assert_close(module.discovered(first.carries, after), (seen - 1) / 49)
    assert module.discovered(after, after).tolist() == [0.0] * 4


def test_patches_and_blocks_are_the_cells_they_say():
    cells = torch.arange(81).view(1, 9, 9)
    assert patches(cells)[0, 4].tolist() == [30, 31, 32, 39, 40, 41, 48, 49, 50]
    codes, trace = torch.full((1, 9, 9), EMPTY * 18, dtype=torch.uint8), torch.zeros(1, 9, 9, dtype=torch.uint8)
    codes[0, :3, :3] = WALL * 18
    codes[0, 0, 0] = EMPTY * 18
    codes[0, 4, 8], codes[0, 8, 8], trace[0, 7, 1] = 5 * 18, 0, 4
    found = blocks(codes, trace)[0]
    assert found[0, 0] == EMPTY * 18 * MARKS
    assert found[1, 2] == 5 * 18 * MARKS
    assert found[2, 2] == EMPTY * 18 * MARKS + UNSEEN
    assert found[2, 0] == EMPTY * 18 * MARKS + VISITED
