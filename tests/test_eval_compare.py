"""Comparing runs, on run folders with known contents."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa.config import ConfigError
from hjepa.eval.compare import compare, group_rows, pair_rows, shared_tags
from hjepa.eval.runs import (
    common_grid,
    differing_settings,
    frames_to,
    group_labels,
    group_names,
    over_episodes,
    read_runs,
    smoothed,
)
from hjepa.log.metrics import Curve, MetricsFile


def make_run(folder: Path, seed: int, stride: int, success: list[float], outcomes: list[bool] | None = None) -> Path:
    folder.mkdir()
    config = f"env: {{id: X}}\nlevels:\n- stride: 1\n- stride: {stride}\ntrain: {{seed: {seed}, lr: 1e-3}}\n"
    (folder / "config.yaml").write_text(config + f"run: {{dir: {folder.name}}}\n")
    file = MetricsFile(folder / "metrics.csv")
    for number, value in enumerate(success):
        file.append({"train/success": value}, 1000 * (number + 1))
    file.close()
    if outcomes is not None:
        (folder / "eval").mkdir()
        result = {"seeds": list(range(len(outcomes))), "returns": [0.5 * value for value in outcomes]}
        (folder / "eval" / "X_mode2_levels2_seed0.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def runs(tmp_path):
    rising = [min(1.0, 0.1 * step) for step in range(20)]
    slow = [0.03 * step for step in range(20)]
    return [
        make_run(tmp_path / "a0", 0, 4, rising, [True] * 10),
        make_run(tmp_path / "a1", 1, 4, rising, [True] * 8 + [False] * 2),
        make_run(tmp_path / "b0", 0, 8, slow, [True] * 2 + [False] * 8),
    ]


def test_runs_that_differ_by_seed_and_folder_are_one_group(runs):
    assert [run.group for run in read_runs(runs)] == [
        "levels.1.stride=4",
        "levels.1.stride=4",
        "levels.1.stride=8",
    ]
    assert differing_settings([{"train": {"seed": 1}}, {"train": {"seed": 2}}]) == [{}, {}]
    assert group_names([{}, {}], [{"a": 1}, {"a": 1}], ["a", "b"]) == ["all", "all"]
    assert group_names([{}, {}], [{}, {"a": 1}], ["old", "new"]) == ["old", "all"]


def test_groups_of_many_settings_are_called_by_their_runs():
    long = ", ".join(f"levels.1.planner.width{number}=3" for number in range(4))
    assert group_labels([long, "x=1", long], ["a", "b", "c"]) == {long: "a and 1 more", "x=1": "b"}
    assert group_labels(["x=1", "x=2"], ["a", "b"]) == {"x=1": "x=1", "x=2": "x=2"}


def test_frames_to_a_threshold_are_of_the_smoothed_curve():
    frames = np.arange(1, 11) * 100
    spike = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0], dtype=float)
    assert frames_to(Curve(frames, spike), 0.5) is None
    step = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1], dtype=float)
    assert frames_to(Curve(frames, step), 0.5) == 600
    assert frames_to(Curve(frames, step), 0.9) == 800
    lucky = np.array([1, 0, 0, 0, 0, 0], dtype=float)
    assert frames_to(Curve(frames[:6], lucky), 0.5) is None
    assert frames_to(Curve(frames[:1], np.ones(1)), 0.9) == 100
    assert smoothed(Curve(frames, step)).values[5] == pytest.approx(0.6)


def test_groups_and_pairs_by_hand(runs):
    data = read_runs(runs)
    assert shared_tags(data) == ["train/success"]
    first, second = group_rows(data, ["train/success"])
    assert (first.runs, first.final_success, first.success_ci95) == (2, 1.0, (1.0, 1.0))
    # Means of five points 0.3 ... 0.7 reach 0.5 at the eighth point.
    assert (first.frames_to_50, first.frames_to_90) == (8000.0, 13000.0)
    assert second.final_success == pytest.approx(0.03 * 17)
    assert (second.success_ci95, second.frames_to_90) == (None, None)
    pairs = {(row.first, row.second): row for row in pair_rows(data)}
    assert len(pairs) == 3
    row = pairs["a0", "b0"]
    assert (row.first_rate, row.second_rate, row.first_only, row.second_only) == (1.0, 0.2, 8, 0)
    assert row.p_value == pytest.approx(2 / 2**8)


def test_curves_are_compared_on_the_frames_that_all_cover():
    one = Curve(np.array([0, 100, 200]), np.zeros(3))
    other = Curve(np.array([50, 150, 400]), np.ones(3))
    grid, values = common_grid([one, other], points=4)
    assert grid.tolist() == [50.0, 100.0, 150.0, 200.0]
    assert values.tolist() == [[0.0] * 4, [1.0] * 4]


def test_the_command_prints_tables_json_and_a_picture(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert compare(runs, as_json=True) == 0
    output = capsys.readouterr().out
    document = json.loads(output.splitlines()[-1])
    assert [row["group"] for row in document["groups"]] == ["levels.1.stride=4", "levels.1.stride=8"]
    assert len(document["pairs"]) == 3
    with Image.open(tmp_path / "compare.png") as picture:
        assert picture.size[0] > 500


def test_old_and_broken_folders_are_read_as_far_as_they_go(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    (runs[0] / "eval" / "old.json").write_text('{"success": 1}')
    (runs[1] / "config.yaml").write_text("a: [1\n")
    assert compare([*runs, bare], as_json=False) == 0
    output = capsys.readouterr().out
    for note in (
        "bare: no metrics.csv",
        "bare: no readable config.yaml",
        "a0: eval/old.json",
        "a1: no readable",
    ):
        assert note in output
    with pytest.raises(ConfigError, match="no such run folder"):
        compare([tmp_path / "missing"], as_json=False)


def test_success_in_training_is_averaged_over_episodes_not_over_rows():
    """Rows of 10, 30, 20 and 40 episodes: the first with 50 behind it is the third, which takes in the second."""
    frames = np.array([1, 2, 3, 4])
    rates, counts = Curve(frames, np.array([1.0, 1.0, 0.0, 0.5])), Curve(frames, np.array([10.0, 30.0, 20.0, 40.0]))
    recent = over_episodes(rates, counts)
    assert recent.frames.tolist() == [3, 4]
    assert recent.values.tolist() == pytest.approx([0.6, 1 / 3])


@pytest.mark.parametrize(("each", "drawn"), [(9.0, False), (10.0, True)])
def test_too_few_training_episodes_are_no_curve(tmp_path, monkeypatch, capsys, each, drawn):
    """Five rows; those that succeed end first, so that 45 episodes that all did say nothing."""
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path / "a", 0, 4, [], [True])
    file = MetricsFile(folder / "metrics.csv")
    for number in range(5):
        file.append({"train/success": 1.0, "train/episodes": each}, 1000 * (number + 1))
    file.close()
    assert compare([folder], as_json=False) == 0
    assert ("fewer than 50 training episodes ended" in capsys.readouterr().out) != drawn
    assert ("train/success" in read_runs([folder])[0].curves) == drawn
