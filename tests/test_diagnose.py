"""The ladder on runs with one and with two levels, and the verdict on ladders whose fault is known."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hjepa.build import build_agent
from hjepa.cli import main
from hjepa.config import load as load_config
from hjepa.config.load import dump
from hjepa.config.registry import kinds, load_class
from hjepa.data import checkpoint
from hjepa.envs.make import env_spec
from hjepa.eval.ladder import Arm, Ladder
from hjepa.eval.matching import EFFORT, evaluations, flat_like, nearest
from hjepa.eval.rollout import Episodes
from hjepa.eval.verdict import judge

CONFIG = Path(__file__).parent.parent / "configs" / "debug.yaml"
ONE_LEVEL = "levels=[{dim: 16}]"
ARM_FIELDS = {
    "name", "label", "oracle", "mode", "levels", "episodes", "success_rate", "success_ci95", "mean_return",
    "mean_length", "decision_ms_p50", "decision_ms_p95", "evaluations_per_decision",
}  # fmt: skip


def make_run(folder, *overrides):
    """A run folder with weights as they are before any training."""
    config = load_config(CONFIG, [f"run.dir={folder}", *overrides])
    torch.manual_seed(0)
    agent = build_agent(config, env_spec(config.env.id))
    folder.mkdir()
    (folder / "config.yaml").write_text(dump(config))
    checkpoint.save(folder / "checkpoints", 1, {"agent": agent.state_dict()}, {"frames": 7}, keep=1)
    return folder, config, agent


def ladder_of(capsys, run, episodes=2):
    assert main(["diagnose", str(run), "--episodes", str(episodes), "--json"]) == 0
    printed = capsys.readouterr().out
    return json.loads(printed.splitlines()[-1]), printed


def test_the_ladder_of_two_levels_is_complete(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hjepa.eval.ladder.LATENCY_DECISIONS", 4)
    run, _, _ = make_run(tmp_path / "run", "env.id=MiniGrid-Empty-5x5-v0", "levels.0.horizon=1")
    report, printed = ladder_of(capsys, run)
    assert [report[name] for name in ("env", "episodes", "suite_seed", "levels", "frames_trained")] == [
        "MiniGrid-Empty-5x5-v0", 2, 0, 2, 7,
    ]  # fmt: skip
    arms = {arm["name"]: arm for arm in report["arms"]}
    assert set(arms) == {"random", "mode_1", "flat", "hierarchical", "flat_equal", "oracle_0"}
    assert all(set(arm) == ARM_FIELDS for arm in arms.values())
    assert [name for name, arm in arms.items() if arm["oracle"]] == ["oracle_0"]
    assert (arms["mode_1"]["evaluations_per_decision"], arms["flat"]["levels"]) == (0, 1)
    assert arms["hierarchical"]["evaluations_per_decision"] > arms["flat"]["evaluations_per_decision"] > 0
    for arm in arms.values():
        low, high = arm["success_ci95"]
        assert low <= arm["success_rate"] <= high
        assert arm["decision_ms_p95"] >= arm["decision_ms_p50"] > 0
    assert len(report["pairs"]) == len(arms) * (len(arms) - 1) // 2
    assert {"level", "fault", "losses", "words"} == set(report["verdict"])
    assert "*: knows the true state" in printed
    saved = json.loads((run / "diagnose" / "diagnose.json").read_text())
    assert {name: saved[name] for name in report} == report
    assert len(saved["seeds"]) == len(set(saved["seeds"])) == 2
    assert set(saved["by_episode"]) == set(arms)
    assert (run / "diagnose" / "diagnose.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_with_one_level_has_no_hierarchical_arms_and_says_so(tmp_path, capsys):
    run, _, _ = make_run(tmp_path / "run", "env.id=hjepa/Dummy-v0", ONE_LEVEL)
    report, printed = ladder_of(capsys, run, episodes=1)
    assert [arm["name"] for arm in report["arms"]] == ["random", "mode_1", "flat"]
    assert "one level" in report["notes"][0]
    assert report["notes"][0] in printed


def test_where_the_search_knows_no_way_the_other_arms_are_played(tmp_path, capsys):
    run, _, _ = make_run(tmp_path / "run", "env.id=hjepa/Dummy-v0")
    report, _ = ladder_of(capsys, run, episodes=1)
    names = [arm["name"] for arm in report["arms"]]
    assert "hierarchical" in names
    assert "oracle_0" not in names
    assert any("No oracle in hjepa/Dummy-v0" in note for note in report["notes"])


def test_no_episodes_is_one_line(tmp_path, capsys):
    assert main(["diagnose", str(tmp_path), "--episodes", "0"]) == 2
    assert capsys.readouterr().err == "--episodes: must be at least 1 (got 0)\n"


@pytest.mark.parametrize("kind", ["exhaustive", "beam", "cem", "shooting"])
def test_a_flat_search_as_large_as_asked_is_found(kind):
    config = load_config(CONFIG, [])
    spec = build_agent(config, env_spec("hjepa/Dummy-v0")).spec.levels[0]
    planner = load_class("planner", kind).Config()
    level = config.levels[0].model_copy(update={"planner": planner, "horizon": 3})
    found = evaluations(nearest(level, spec, 2.0), spec)
    assert found == pytest.approx(2 * evaluations(level, spec), rel=0.35)


def test_the_width_of_every_planner_s_search_is_known():
    assert set(EFFORT) == set(kinds("planner"))
    for kind, name in EFFORT.items():
        assert name in load_class("planner", kind).Config.model_fields


def test_the_flat_agent_with_more_search_has_the_same_weights(tmp_path):
    _, config, agent = make_run(tmp_path / "run", "levels.0.planner.kind=shooting")
    run = SimpleNamespace(config=config, agent=agent)
    more, words = flat_like(run, 2.0)
    assert all(torch.equal(more.state_dict()[name], value) for name, value in agent.state_dict().items())
    assert "candidates" in words
    assert not more.training


def ladder(**rates):
    """Arms over 40 episodes; the first ones succeed, so better arms succeed wherever worse ones do."""
    built = Ladder(run=SimpleNamespace(), env_id="env", seeds=range(40))
    for name, rate in {"random": 0.0, **rates}.items():
        returns = (np.arange(40) < round(40 * rate)).astype(float)
        built.played[name] = Episodes("env", np.arange(40), returns, returns, 1.0)
        mode = None if name == "random" else 2
        built.arms[name] = Arm(
            name, name, name.startswith("oracle"), mode, 2, 40, rate, (0.0, 1.0), rate, 9.0, 1.0, 1.0, 50.0
        )
    return built


@pytest.mark.parametrize(
    ("rates", "level", "fault"),
    [
        ({"mode_1": 0.6, "flat": 0.7, "hierarchical": 0.3, "oracle_0": 0.9}, 1, "subgoals"),
        ({"mode_1": 0.6, "flat": 0.9, "hierarchical": 0.3, "oracle_0": 0.3}, 0, "following"),
        ({"mode_1": 0.9, "flat": 0.3, "hierarchical": 0.3, "oracle_0": 0.3}, 0, "planning"),
        ({"mode_1": 0.0, "flat": 0.1, "hierarchical": 0.0, "oracle_0": 0.1}, 0, "not_learned"),
        ({"random": 0.5, "mode_1": 0.5, "flat": 0.3, "hierarchical": 0.4, "oracle_0": 0.4}, 0, "not_learned"),
        ({"mode_1": 0.9, "flat": 0.9, "hierarchical": 0.95, "oracle_0": 0.95}, None, "none"),
        ({"mode_1": 0.1, "flat": 0.9, "hierarchical": 0.3}, 1, "hierarchy"),
        ({"mode_1": 0.9, "flat": 0.4}, 0, "planning"),
        (
            {"mode_1": 0.5, "flat": 0.5, "hierarchical": 0.3, "oracle_0": 0.9, "oracle_1": 0.8},
            2,
            "subgoals",
        ),
        (
            {"mode_1": 0.5, "flat": 0.5, "hierarchical": 0.3, "oracle_0": 0.9, "oracle_1": 0.4},
            1,
            "subgoals",
        ),
    ],
)
def test_the_verdict_names_the_level_that_loses_the_most(rates, level, fault):
    verdict = judge(ladder(**rates))
    assert (verdict.level, verdict.fault) == (level, fault)
    amounts = [loss.amount for loss in verdict.losses]
    assert amounts == sorted(amounts, reverse=True)
    for loss in verdict.losses:
        assert loss.amount == pytest.approx(rates[loss.better] - rates[loss.worse])


def test_a_loss_that_may_be_chance_is_called_so():
    sure = judge(ladder(mode_1=0.3, flat=0.3, hierarchical=0.3, oracle_0=0.8))
    unsure = judge(ladder(mode_1=0.3, flat=0.3, hierarchical=0.3, oracle_0=0.4))
    assert sure.level == unsure.level == 1
    assert "chance" not in sure.words[0]
    assert "chance" in unsure.words[0]
    assert "50%" in sure.words[0]


def test_equal_search_is_what_the_hierarchy_is_measured_by():
    words = judge(ladder(mode_1=0.3, flat=0.3, hierarchical=0.6, flat_equal=0.5, oracle_0=0.6)).words[-1]
    assert "60%" in words
    assert "50%" in words
