"""Drives: energies worked out by hand, over a memory of a few entries."""

import gymnasium
import minigrid  # noqa: F401
import pytest
import torch

from hjepa.config.registry import load_class
from hjepa.cost import INTERACTIONS, interaction, observation_code
from hjepa.interfaces import MemoryEntry, MemoryState
from hjepa.modules.drive.discovery import DiscoveryDrive
from hjepa.modules.drive.effort import EffortDrive
from hjepa.modules.drive.elliptical import EllipticalDrive
from hjepa.modules.drive.goal_distance import GoalDistanceDrive
from hjepa.modules.drive.guardrail import GuardrailDrive
from hjepa.modules.drive.interaction import InteractionDrive
from hjepa.modules.drive.novelty import NoveltyDrive
from hjepa.modules.drive.task import TaskDrive
from hjepa.types import AgentSpec, EnvSpec, LevelSpec, Observation, Signals

DIM, FORWARD = 8, 2
LEVEL = LevelSpec(0, DIM, 4, DIM, 7, 1, 1, 4, 7, 7, DIM, 1, 0, 0.99)
SPEC = AgentSpec(EnvSpec("none", 7, (7, 7), 100), (LEVEL,), (), (), 0, 0.99)
KINDS = (
    TaskDrive,
    NoveltyDrive,
    EllipticalDrive,
    EffortDrive,
    InteractionDrive,
    DiscoveryDrive,
    GuardrailDrive,
    GoalDistanceDrive,
)


class ExactMemory:
    """The counts of a memory, by comparison."""

    def count(self, contents, code):
        return ((contents.code == code[:, None]) & (contents.time >= 0)).sum(1)

    def lifetime(self, contents, code):
        return contents.visits[code % len(contents.visits)]

    def interacted(self, contents, kind):
        same = interaction(contents.code, contents.action) == kind[:, None]
        return (same & (contents.time >= 0)).sum(1), contents.interactions[kind]


def memory_of(images=None, keys=None, rows=2, places=3, visits=16, imagined=False):
    """Entries written at times 0, 1, ...: `images` [rows, n, W, V, 3], `keys` [rows, n, DIM]."""
    count = (images if images is not None else keys).shape[1] if images is not None or keys is not None else 0
    time = torch.full((rows, places), -1)
    time[:, :count] = torch.arange(count)
    code = torch.zeros(rows, places, dtype=torch.int64)
    stored = torch.zeros(rows, places, DIM)
    if images is not None:
        code[:, :count] = observation_code(images)
    if keys is not None:
        stored[:, :count] = keys
    nothing = torch.zeros(rows, places)
    flags = torch.full((rows, places), imagined)
    written = torch.full((rows,), count)
    return MemoryState(
        stored,
        stored,
        time,
        nothing,
        nothing,
        nothing.long(),
        flags,
        code,
        code,
        written,
        torch.zeros(visits).long(),
        torch.zeros(INTERACTIONS).long(),
    )


def signals(
    image=None, action=None, reward=None, first=None, discovered=None, state=None, goal=None, has_goal=None, rows=2
):
    image = torch.zeros(rows, 7, 7, 3, dtype=torch.uint8) if image is None else image
    return Signals(
        torch.zeros(rows) if reward is None else torch.tensor(reward),
        Observation(image, torch.zeros(rows, 1, dtype=torch.int64)),
        torch.full((rows,), -1) if action is None else torch.tensor(action),
        torch.zeros(rows, dtype=torch.bool) if first is None else torch.tensor(first),
        torch.zeros(rows) if discovered is None else discovered,
        torch.zeros(rows, DIM) if state is None else state,
        torch.zeros(rows, DIM) if goal is None else goal,
        torch.zeros(rows, dtype=torch.bool) if has_goal is None else torch.tensor(has_goal),
    )


def make(kind, **config):
    return kind(kind.Config(**config), SPEC)


def energy(drive, given, contents=None):
    return drive.perceived(given, ExactMemory(), memory_of() if contents is None else contents).tolist()


def views(ahead=()):
    """One view for each object number ahead, otherwise of empty cells."""
    image = torch.tensor([1, 0, 0], dtype=torch.uint8).expand(len(ahead), 7, 7, 3).clone()
    image[:, 3, 5, 0] = torch.tensor(ahead, dtype=torch.uint8)
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_r25_a_drive_has_no_parameters_and_ignores_the_global_seed(kind):
    torch.manual_seed(0)
    one = make(kind)
    state = torch.get_rng_state()
    other = make(kind)
    assert torch.equal(state, torch.get_rng_state())
    assert not list(one.parameters())
    assert all(map(torch.equal, one.buffers(), other.buffers()))


@pytest.mark.parametrize("kind", KINDS)
def test_r27_predicted_energies_are_the_readout_but_a_guardrail_never_pays(kind):
    readout = torch.tensor([[-2.0, 0.5], [0.0, 3.0]])
    expected = readout.clamp_min(0) if kind.guardrail else readout
    assert torch.equal(make(kind).predicted(readout), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_r28_rows_do_not_see_each_other(kind):
    torch.manual_seed(0)
    images = torch.randint(0, 10, (2, 3, 7, 7, 3), dtype=torch.uint8)
    contents = memory_of(images, torch.randn(2, 3, DIM))
    given = signals(
        images[:, 1].clone(),
        [2, 3],
        [0.5, 0.0],
        [False, False],
        torch.rand(2),
        torch.randn(2, DIM),
        torch.randn(2, DIM),
        [True] * 2,
    )
    drive = make(kind)
    both = drive.perceived(given, ExactMemory(), contents)
    alone = drive.perceived(given[1:], ExactMemory(), rows_of(contents, slice(1, 2)))
    torch.testing.assert_close(alone, both[1:])


def rows_of(contents, rows):
    shared = {name: getattr(contents, name) for name in ("visits", "interactions")}
    names = [name for name in MemoryState.__dataclass_fields__ if name not in shared]
    return MemoryState(**{name: getattr(contents, name)[rows] for name in names}, **shared)


def test_task_energy_is_minus_the_reward():
    assert energy(make(TaskDrive), signals(reward=[1.0, -0.5])) == [-1.0, 0.5]


def test_novelty_pays_the_first_visit_by_its_lifetime_count():
    seen, new = views([1, 2])
    contents = memory_of(torch.stack([seen, seen])[:, None])
    contents.visits[observation_code(new) % 16] = 3
    assert energy(make(NoveltyDrive), signals(torch.stack([seen, new])), contents) == [0.0, -0.5]


def test_interaction_pays_the_first_time_that_an_episode_does_a_deed():
    toggle, door, wall = 5, 4, 2
    contents = memory_of(views([door, wall]).view(2, 1, 7, 7, 3))
    contents.action[:, 0] = toggle
    contents.interactions[interaction(contents.code[:, 0], torch.tensor(toggle))] = torch.tensor([4, 1])
    seen = views([door, door])
    assert energy(make(InteractionDrive), signals(seen, action=[toggle, toggle]), contents) == [-0.5, -1.0]
    assert energy(make(InteractionDrive), signals(seen, action=[-1, toggle], first=[True, False]), contents)[0] == 0.0
    again = memory_of(views([door, door, door, wall]).view(2, 2, 7, 7, 3))
    again.action[:, :2] = toggle
    again.interactions[:] = 1
    # Row 0 toggled the door twice, row 1 the door and then a wall.
    assert energy(make(InteractionDrive), signals(seen, action=[toggle, toggle]), again) == [0.0, -1.0]


def test_effort_follows_its_table_and_is_nothing_at_first():
    drive = make(EffortDrive, costs=(1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.0))
    assert energy(drive, signals(action=[2, 6])) == [0.5, 0.0]
    assert energy(drive, signals(action=[0, -1])) == [1.0, 0.0]
    with pytest.raises(ValueError, match="2 entries for 7 actions"):
        make(EffortDrive, costs=(1.0, 1.0))


def test_goal_distance_is_root_mean_square_where_there_is_a_goal():
    given = signals(goal=torch.full((2, DIM), 3.0), has_goal=[True, False])
    assert energy(make(GoalDistanceDrive), given) == pytest.approx([3.0, 0.0])


def test_elliptical_is_minus_one_over_n_plus_one_and_high_in_new_directions():
    torch.manual_seed(0)
    drive = make(EllipticalDrive, ridge=1e-3)
    state = torch.randn(DIM)
    for count in (1, 2, 3):
        contents = memory_of(keys=state.expand(2, count, DIM))
        seen, new = energy(drive, signals(state=torch.stack([state, torch.randn(DIM)])), contents)
        assert seen == pytest.approx(-1 / (count + 1), abs=0.01)
        assert new < -0.95
    ignored = memory_of(keys=state.expand(2, 3, DIM), imagined=True)
    assert max(energy(drive, signals(state=state.expand(2, DIM)), ignored)) < -0.95


def test_elliptical_is_the_formula():
    torch.manual_seed(0)
    drive, keys, state = make(EllipticalDrive), torch.randn(2, 3, DIM), torch.randn(2, DIM)
    for row in range(2):
        phi, seen = state[row] @ drive.projection, keys[row] @ drive.projection
        bonus = phi @ torch.linalg.inv(0.1 * torch.eye(32) + seen.T @ seen) @ phi
        found = energy(drive, signals(state=state), memory_of(keys=keys))[row]
        assert found == pytest.approx((-bonus / (1 + bonus)).item(), rel=1e-3)


def test_guardrail_is_one_for_walking_into_a_hazard_only():
    lava, empty = 9, 1
    contents = memory_of(views([empty, lava, lava, empty]).view(2, 2, 7, 7, 3).flip(0))
    drive = make(GuardrailDrive)
    # Row 0 saw lava and then an empty cell ahead; row 1 saw an empty cell and then lava.
    assert energy(drive, signals(views([empty, empty]), [FORWARD, FORWARD]), contents) == [0.0, 1.0]
    assert energy(drive, signals(views([empty, empty]), [FORWARD, 1]), contents) == [0.0, 0.0]
    assert energy(drive, signals(views([empty, empty]), [-1, -1], first=[True, True]), contents) == [0.0, 0.0]
    warned = make(GuardrailDrive, warning=0.25)
    assert energy(warned, signals(views([lava, empty]), [1, FORWARD]), contents) == [0.25, 1.0]
    assert energy(make(GuardrailDrive, hazards=("ball",)), signals(action=[2, 2]), contents) == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["window", "key_value"])
def test_r29_drives_read_the_memory_that_the_agent_writes(kind):
    """A walk in MiniGrid: the guardrail rises where lava ends the episode, and only new views are novel."""
    memory_class = load_class("memory", kind)
    memory = memory_class(memory_class.Config(capacity=128), SPEC)
    contents = memory.initial(1, torch.device("cpu"))
    env, guardrail, novelty = (
        gymnasium.make("MiniGrid-LavaGapS5-v0"),
        make(GuardrailDrive),
        make(NoveltyDrive),
    )
    torch.manual_seed(0)
    image, seen, entered = torch.tensor(env.reset(seed=0)[0]["image"])[None], set(), 0.0
    contents = remember(memory, contents, image, 0)
    for step, action in enumerate(torch.randint(0, 3, (300,)).tolist()):
        observation, reward, terminated, _, _ = env.step(action)
        seen.add(observation_code(image).item())
        image = torch.tensor(observation["image"])[None]
        given = signals(image, [action], rows=1)
        found = guardrail.perceived(given, memory, contents).item()
        assert found == float(terminated and reward == 0)
        new = observation_code(image).item() not in seen
        assert (novelty.perceived(given, memory, contents).item() < 0) == new
        entered += found
        if terminated:
            image, seen = torch.tensor(env.reset()[0]["image"])[None], set()
            contents = memory.reset(contents, torch.ones(1, dtype=torch.bool))
        contents = remember(memory, contents, image, 0 if terminated else step + 1)
    assert entered > 3


def remember(memory, contents, image, time):
    nothing = torch.zeros(1)
    flags, state = nothing.bool(), torch.randn(1, DIM)
    code = observation_code(image)
    entry = MemoryEntry(torch.tensor([time]), state, nothing, nothing, nothing.long(), flags, code, code)
    return memory.write(contents, entry)


def test_discovery_pays_for_what_was_not_on_the_map():
    drive = make(DiscoveryDrive)
    assert energy(drive, signals(discovered=torch.tensor([0.25, 0.0]))) == [-0.25, 0.0]
