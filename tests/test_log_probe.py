"""Probes: dead reckoning against the true pose, decoding of what a state holds, no trace in the run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from minigrid.core.constants import COLOR_TO_IDX, COLORS, OBJECT_TO_IDX

from hjepa.envs.vector import VectorEnv
from hjepa.log.draw import draw_guess, draw_view
from hjepa.log.pose import PoseTracker, to_grid
from hjepa.log.probe import PROBE_FILE, Probe, load_probe

ENVS = ["MiniGrid-DoorKey-6x6-v0", "MiniGrid-LavaCrossingS9N1-v0", "MiniGrid-KeyCorridorS3R1-v0"]


def walk(name, steps, num_envs=4, seed=0):
    """Random records of a batch, and the environments' true poses beside them."""
    env = VectorEnv(name, num_envs, lambda row, episode: 100 * row + episode + 1)
    generator = torch.Generator().manual_seed(seed)
    # Mostly forward, so that it gets somewhere.
    weights = torch.tensor([1.0, 1.0, 4.0, 1.0, 0.3, 1.0, 0.0])
    action = torch.zeros(num_envs, dtype=torch.int64)
    for _ in range(steps):
        record = env.step(action)
        poses = [(*map(int, one.unwrapped.agent_pos), int(one.unwrapped.agent_dir)) for one in env.envs]
        yield record, poses
        action = torch.multinomial(weights.expand(num_envs, -1), 1, generator=generator)[:, 0]
    env.close()


@pytest.mark.parametrize("name", ENVS)
def test_dead_reckoning_is_the_true_pose(name):
    tracker, starts = PoseTracker(), {}
    for record, poses in walk(name, 150):
        tracked = tracker.update(record).tolist()
        for row, (pose, true) in enumerate(zip(tracked, poses, strict=True)):
            if record.is_first[row]:
                starts[row] = true
            assert to_grid(starts[row], pose[:2]) == true[:2]
            assert (starts[row][2] + pose[2]) % 4 == true[2]


def decision_of(record, pose):
    """Two levels: the first holds view and pose, the second nothing but noise."""
    view = record.image.float().flatten(1) / 10
    generator = torch.Generator().manual_seed(int(record.image.sum()))
    noise = torch.randn(len(view), 8, generator=generator)
    states = (torch.cat([view, pose.float()], 1), noise)
    return SimpleNamespace(levels=tuple(SimpleNamespace(state=state) for state in states))


def trained_probe(rounds=12):
    probe, tracker, scores = Probe([7 * 7 * 3 + 3, 8], capacity=1024), PoseTracker(), []
    for number, (record, _) in enumerate(walk(ENVS[0], 20 * rounds, num_envs=8)):
        probe.observe(decision_of(record, tracker.update(record)), record)
        if number % 20 == 19:
            scores.append(probe.fit(updates=30, batch=128))
    return probe, scores


def test_a_probe_reads_what_is_there_and_only_that():
    probe, scores = trained_probe()
    first, last = scores[0], scores[-1]
    assert first["probe_0/cell_accuracy"] < 0.5
    assert last["probe_0/cell_accuracy"] > 0.95
    assert last["probe_1/cell_accuracy"] < last["probe_0/cell_accuracy"] - 0.1
    assert last["probe_0/position_error"] < 0.1
    assert last["probe_1/position_error"] > 0.5
    assert probe.position_error(0) == pytest.approx(last["probe_0/position_error"])
    assert probe.fit() == {}
    record, _ = list(walk(ENVS[0], 3))[-1]
    pose = torch.zeros(4, 3)
    decoded = probe.decode(0, decision_of(record, pose).levels[0].state)
    assert (decoded.view[..., 0] == record.image[..., 0]).float().mean() > 0.9
    assert decoded.confidence.shape == (4, 7, 7)
    assert probe.position(0, torch.zeros(2, 3, 150)).shape == (2, 3, 2)


def test_a_probe_leaves_no_trace_in_the_run():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    records = list(walk(ENVS[0], 25))
    state = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    probe = Probe([6], seed=3)
    for record, _ in records:
        probe.observe(SimpleNamespace(levels=(SimpleNamespace(state=state * 1.0),)), record)
    probe.fit(updates=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert state.grad is None


def test_two_probes_of_a_seed_are_equal():
    (first, _), (second, _) = trained_probe(2), trained_probe(2)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_saved_and_loaded_it_decodes_the_same(tmp_path):
    assert load_probe(tmp_path) is None
    probe, _ = trained_probe(2)
    probe.save(tmp_path)
    loaded = load_probe(tmp_path)
    state = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(probe.decode(1, state).view, loaded.decode(1, state).view)
    assert torch.equal(probe.position(1, state), loaded.position(1, state))
    assert [entry.name for entry in tmp_path.iterdir()] == [PROBE_FILE]


def test_views_are_drawn_as_minigrid_draws_them():
    env = VectorEnv(ENVS[0], 1, lambda row, episode: 7)
    record = env.step(torch.zeros(1, dtype=torch.int64))
    view = record.image[0].numpy()
    true = env.envs[0].unwrapped.get_pov_render(tile_size=16)
    drawn = draw_view(view, 16)
    assert drawn.shape == true.shape
    # MiniGrid lightens seen cells and leaves unseen ones black; the shapes are the same.
    seen = np.kron(view[..., 0].T != 0, np.ones((16, 16), dtype=bool))
    lightened = 255 - 0.7 * (255.0 - drawn[seen])
    assert np.abs(lightened - true[seen]).max() <= 2
    sure = draw_guess(view, np.ones((7, 7)), 16)
    assert np.array_equal(sure, drawn)
    unsure = draw_guess(view, np.zeros((7, 7)), 16)
    assert len(np.unique(unsure.reshape(-1, 3), axis=0)) == 1


def test_a_guessed_wall_is_drawn_in_the_colour_of_walls() -> None:
    """The agent stands below it; its own cell is drawn otherwise."""
    view = np.zeros((1, 2, 3), dtype=np.int64)
    view[0, 0] = (OBJECT_TO_IDX["wall"], COLOR_TO_IDX["red"], 0)
    assert (draw_guess(view, np.ones((1, 2)), 8)[:8] == COLORS["grey"]).all()
