"""The full view: what it shows, and that perception keeps place, heading, surroundings and ground apart."""

import gymnasium
import numpy as np
import pytest
import torch
from minigrid.core.world_object import Wall
from minigrid.wrappers import FullyObsWrapper

from hjepa.envs.full_view import FOUR_ROOMS_ID, MULTI_ROOM_ID
from hjepa.envs.make import env_spec, make_env
from hjepa.modules.cells import AGENT, COLOURS, EMPTY, STATES, pack, unpack
from hjepa.modules.perception.full_view import FullView, alike, bump
from hjepa.types import AgentSpec, LevelSpec, Observation

PARTS = {"place": slice(0, 8), "heading": slice(8, 16), "near": slice(16, 32), "ground": slice(32, 40)}


def full_view(context=0.0):
    level = LevelSpec(0, 40, 4, 40, 3, 1, 1, 3, 3, 3, 40, 1, 0, 0.99)
    spec = AgentSpec(env_spec(FOUR_ROOMS_ID), (level,), ("task",), (False,), 0, 0.99)
    torch.manual_seed(0)
    near = 0.4 - context
    config = FullView.Config(heading=0.2, near=near, context=context, ground=0.2, hidden=32, around=1, channels=4)
    return FullView(config, spec).eval()


@pytest.fixture
def perception():
    return full_view()


def grid(seed=0):
    env = make_env(FOUR_ROOMS_ID)
    env.reset(seed=seed)
    return env.unwrapped


def seen(world, place, direction):
    world.agent_pos, world.agent_dir = place, direction
    return world.gen_obs()["image"]


def states(perception, images):
    image = torch.from_numpy(np.stack(images))
    mission = torch.zeros(len(image), 1, dtype=torch.int64)
    carry, tokens = perception.initial(len(image), image.device), torch.zeros(len(image), 0, 0)
    with torch.no_grad():
        return perception(Observation(image, mission), mission[:, 0], carry, tokens)[0]


def test_the_layout_is_minigrids_without_the_goal_and_the_view_is_its_full_observation() -> None:
    own, theirs = make_env(FOUR_ROOMS_ID), FullyObsWrapper(gymnasium.make("MiniGrid-FourRooms-v0"))
    for seed in range(5):
        mine, other = own.reset(seed=seed)[0]["image"], theirs.reset(seed=seed)[0]["image"]
        differs = (mine != other).any(-1)
        assert differs.sum() == 1 and other[differs][0, 0] == 8
        for action in (2, 1, 2, 2, 0, 2):
            after = own.step(action)[0]["image"]
            assert (after == FullyObsWrapper(own).observation({})["image"]).all()


def test_doors_are_seen_as_they_stand_and_the_fourth_action_toggles_them() -> None:
    own = make_env(MULTI_ROOM_ID)
    own.reset(seed=0)
    world = own.unwrapped
    (column, row), door = world._doors[0]
    beside = next(
        ((column - east, row - south), direction)
        for direction, (east, south) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1)))
        if world.grid.get(column - east, row - south) is None
    )
    world.agent_pos, world.agent_dir = beside
    images = [own.step(action)[0]["image"] for action in (3, 3, 3, 2, 3)]
    assert [image[column, row].tolist()[2] for image in images[:3]] == [0, 1, 0] and door.is_open
    assert [image[column, row].tolist()[0] for image in images] == [4, 4, 4, 10, 10]
    assert (images[-1] == FullyObsWrapper(own).observation({})["image"]).all()
    assert not any((image == 8)[..., 0].any() for image in images)


def test_packing_keeps_all_four_directions_of_the_agent() -> None:
    world = grid()
    codes = pack(torch.from_numpy(np.stack([seen(world, (3, 4), direction) for direction in range(4)])))
    assert codes[:, 4, 3].tolist() == [(AGENT * COLOURS + direction) * STATES for direction in range(4)]
    assert unpack(codes[:, 4, 3])[:, :2].tolist() == [[AGENT, direction] for direction in range(4)]


def test_each_part_of_the_state_follows_its_own_cause_alone(perception) -> None:
    world = grid()
    here, turned, moved = states(perception, [seen(world, (4, 4), 0), seen(world, (4, 4), 1), seen(world, (5, 4), 0)])
    other = states(perception, [seen(grid(1), (4, 4), 0)])[0]
    # In the middle of a room all directions and neighbours look alike from close by.
    pairs = {"heading": (here, turned), "place": (here, moved), "ground": (here, other)}
    for cause, (first, second) in pairs.items():
        for part, columns in PARTS.items():
            same = torch.allclose(first[columns], second[columns], atol=1e-5)
            assert same == (part != cause), (cause, part)


def test_what_lies_ahead_is_in_the_same_place_whichever_way_the_agent_looks(perception) -> None:
    ground = torch.full((4, 19, 19), EMPTY * COLOURS * STATES, dtype=torch.uint8)
    ground[:, 9, 10], ground[:, 10, 9], ground[:, 9, 8], ground[:, 8, 9] = 1, 2, 3, 4
    nine = torch.full((4,), 9)
    cells = perception._crop(ground, nine, nine, torch.arange(4)).view(4, 3, 3)
    assert cells[:, 0, 1].tolist() == [1, 2, 3, 4]
    assert cells[:, 1, 2].tolist() == [2, 3, 4, 1]


def test_windows_give_what_steps_give_and_a_view_without_agent_is_no_mistake(perception) -> None:
    world = grid()
    images = [seen(world, (4, 4 + step), 1) for step in range(3)]
    single = states(perception, images)
    image = torch.from_numpy(np.stack(images))[None]
    mission, first = torch.zeros(1, 3, 1, dtype=torch.int64), torch.tensor([[True, False, False]])
    window = perception.observe(
        Observation(image, mission), mission[..., 0], first, torch.zeros(1, 3, 0), torch.zeros(1, 3, 0, 0)
    )
    torch.testing.assert_close(window[0], single)
    assert torch.isfinite(states(perception, [np.zeros((19, 19, 3), np.uint8)])).all()


def test_near_numbers_have_near_bumps() -> None:
    bumps = bump(torch.arange(10), 10, 1.5)
    distance = torch.cdist(bumps, bumps)[0]
    assert (distance[1:6] > distance[:5]).all()


def test_the_context_of_a_cell_tells_of_what_is_too_far_off_to_be_near_and_not_of_the_heading() -> None:
    perception, parts = full_view(0.2), PARTS | {"near": slice(16, 24), "context": slice(24, 32)}
    world = grid()
    gap = next((9, row) for row in range(10, 19) if world.grid.get(9, row) is None)
    before = [seen(world, place, direction) for place, direction in (((2, 2), 0), ((2, 2), 1), ((3, 2), 0))]
    world.grid.set(*gap, Wall())
    world._ground = world.grid.encode()
    here, turned, moved, closed = states(perception, [*before, seen(world, (2, 2), 0)])
    same = {
        part: [torch.allclose(here[columns], other[columns], atol=1e-5) for other in (turned, moved, closed)]
        for part, columns in parts.items()
    }
    assert same["context"] == [True, False, False] and same["near"][2] and same["place"][2]


def test_rows_that_are_alike_have_one_number_and_one_of_them_stands_for_it() -> None:
    rows = torch.randint(5, (64, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    first, number = alike(rows)
    assert torch.equal(rows[first][number], rows)
    assert len(first) == len(rows.unique(dim=0)) < len(rows)
