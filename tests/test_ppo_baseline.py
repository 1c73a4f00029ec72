"""The PPO baseline: it trains on hjepa's layouts, is judged on hjepa's held-out layouts, and says what it needs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.common import guarded
from experiments.ppo_baseline.results import play, read
from experiments.ppo_baseline.run import main
from hjepa.envs.seeds import held_out_seed, training_seed
from hjepa.envs.vector import VectorEnv
from hjepa.eval.rollout import RandomAgent, run_episodes
from hjepa.eval.stats import wilson_interval
from hjepa.log.metrics import read_metrics

ENV = "MiniGrid-DoorKey-5x5-v0"
SHORT = "MiniGrid-Empty-Random-5x5-v0"
"""Its episodes end within the first rollout."""


@pytest.fixture
def learner():
    pytest.importorskip("stable_baselines3")
    from experiments.ppo_baseline import learner

    return learner


def status(*arguments: str) -> int:
    return guarded(lambda: main(arguments))


def test_a_missing_library_is_one_line_and_status_2(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    assert status("--runs", str(tmp_path / "runs")) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "stable-baselines3 is not installed" in error[0] and "[baselines]" in error[0]
    assert not (tmp_path / "runs").exists()


def test_mistakes_are_one_line_and_status_2(tmp_path: Path, capsys, learner):
    (tmp_path / f"{ENV}_seed0").mkdir()
    for arguments in (("--env", "MiniGrid-DorKey-5x5-v0"), ("--table",), ("--env", ENV)):
        assert status("--runs", str(tmp_path), *arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    (tmp_path / f"{ENV}_seed0" / "results.json").write_text('{"env": 1}')
    assert status("--runs", str(tmp_path), "--table") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_tiny_run_writes_metrics_and_results(tmp_path: Path, capsys, learner):
    threads = torch.get_num_threads()
    try:
        command = ("--env", SHORT, "--frames", "2000", "--seed", "3", "--episodes", "5", "--runs", str(tmp_path))
        assert status(*command) == 0
    finally:
        torch.set_num_threads(threads)
    folder = tmp_path / f"{SHORT}_seed3"
    curves = read_metrics(folder / "metrics.csv")
    assert curves["time/seconds"].frames.tolist() == [2048]
    assert 0 <= curves["train/return"].values[-1] <= curves["train/success"].values[-1] <= 1
    (result,) = read(tmp_path)
    assert (result.env, result.seed, result.frames, result.episodes) == (SHORT, 3, 2048, 5)
    for played in (result.greedy, result.sampled):
        assert tuple(played.success_ci95) == wilson_interval(round(5 * played.success_rate), 5)
    # Where the runs lie is no part of the command.
    assert result.command.endswith(f"--env {SHORT} --frames 2000 --seed 3 --episodes 5")
    assert capsys.readouterr().out.count("| Empty-Random-5x5-v0 | 3 | 2,048 |") == 1


def test_the_time_limit_stops_training(tmp_path: Path, learner):
    model, report = learner.learn(ENV, 100_000, 0, 0.0, tmp_path)
    assert model.num_timesteps == learner.NUM_ENVS and report.seconds > 0


def test_it_trains_on_the_layouts_of_hjepa(learner):
    env = VectorEnv(ENV, 2, lambda row, episode: training_seed(7, row, episode))
    expected = env.step(torch.zeros(2, dtype=torch.int64)).image.numpy()
    layouts = [learner.TrainingLayouts(ENV, 7, row) for row in range(2)]
    assert np.array_equal(np.stack([layout.reset(seed=99)[0] for layout in layouts]), expected)
    assert not np.array_equal(expected[0], expected[1])


def test_it_is_judged_on_the_held_out_layouts_of_hjepa():
    agent = RandomAgent(7)
    expected = run_episodes(agent, ENV, [held_out_seed(0, index) for index in range(3)], mode=1)
    played = play(agent, ENV, suite_seed=0, episodes=3)
    assert (played.success_rate, played.mean_length) == (expected.success.mean(), expected.lengths.mean())


def test_learned_means_ninety_of_the_last_hundred_episodes(tmp_path: Path, learner):
    report = learner.Report(tmp_path, 100, None)
    report._on_training_start()
    row = np.eye(1, learner.NUM_ENVS)[0]
    outcomes = [0.0] * 50 + [1.0] * 89 + [0.0] + [1.0] * 10
    reached = []
    for step, outcome in enumerate(outcomes, start=1):
        # An episode of two steps in row 0, whose reward comes in the first of them.
        for number, (reward, done) in enumerate(((outcome, 0.0), (0.0, 1.0))):
            report.num_timesteps = 2 * step + number
            report.locals = {"rewards": reward * row, "dones": done * row}
            report._on_step()
        reached.append(report.frames_to_learned)
    report.close()
    first = next(number for number, frames in enumerate(reached, start=1) if frames is not None)
    windows = [outcomes[:number][-100:] for number in range(1, len(outcomes) + 1)]
    assert first == next(n for n, window in enumerate(windows, 1) if len(window) == 100 and sum(window) >= 90)
    assert report.frames_to_learned == 2 * first + 1
