"""The shipped studies: every run of every sweep has a valid config, and what they publish names its origin."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments.common import Study, TrainedRun, arms_of, chosen
from experiments.outcomes import COLUMNS, Outcome, joined
from hjepa.config import ConfigError, dump, load
from hjepa.config.sweep import combinations, read_sweep

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
STUDIES = sorted(path.parent for path in EXPERIMENTS.glob("*/sweep.yaml"))
SWEEPS = sorted(path for path in EXPERIMENTS.glob("*/*.yaml") if "\ngrid:" in path.read_text())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_run_of_a_study_has_a_valid_config(path: Path) -> None:
    sweep = read_sweep(path)
    runs = combinations(sweep)
    assert len({run.arm for run in runs}) == max(len(sweep.arms), 1) and len({run.dir for run in runs}) == len(runs)
    for run in runs:
        assert load(path.parent / sweep.config, run.overrides).run.dir == str(run.dir)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_published_results_name_their_origin_and_cover_every_arm(study: Path) -> None:
    results = json.loads((study / "results.json").read_text())
    assert all(results[key] for key in ("commit", "seeds", "machine", "command"))
    assert {row["arm"] for row in results["rows"]} == {
        run.arm for run in combinations(read_sweep(study / "sweep.yaml"))
    }
    assert (study / "table.md").read_text() in (study / "README.md").read_text()


@pytest.mark.parametrize("study", ["goal_reaching", "goal_reaching_doors"])
def test_published_rows_of_goal_reaching_are_those_of_the_readme(study: str) -> None:
    results = json.loads((EXPERIMENTS / study / "results.json").read_text())
    table = (EXPERIMENTS / study / "table.md").read_text()
    assert all(results[key] for key in ("commit", "seeds", "machine", "command"))
    assert all(f"| {row['name']} |" in table for row in results["rows"])
    assert table in (EXPERIMENTS / study / "README.md").read_text()


def test_arms_are_chosen_in_the_order_of_the_sweep_and_unknown_ones_refused() -> None:
    sweep = read_sweep(EXPERIMENTS / "flat_vs_hierarchical" / "sweep.yaml")
    first, second, *_ = sweep.arms
    assert list(chosen(sweep, [second, first])) == [first, second]
    with pytest.raises(ConfigError, match="there is no 'four_levels'; there are: multiroom_n6_one_level"):
        chosen(sweep, ["four_levels"])


def test_what_is_published_of_arms_that_are_not_asked_for_stays(tmp_path: Path) -> None:
    sweep = read_sweep(EXPERIMENTS / "flat_vs_hierarchical" / "sweep.yaml")
    first, second, third = list(sweep.arms)[:3]
    old = [Outcome(arm, "1", 0.5, (0.25, 0.75), 9.0, 4.0, 7.0, None, None, "c0ffee") for arm in (first, second, third)]
    (tmp_path / "results.json").write_text(json.dumps({"rows": [asdict(row) for row in old]}))
    new = replace(old[1], success=1.0, success_by_run=(1.0, 1.0), commit="decade")
    some = sweep.model_copy(update={"arms": chosen(sweep, [second])})
    study = Study(tmp_path, some, 1, 200, True, (), "command", tuple(sweep.arms))
    assert joined(study, [new]) == [old[0], new, old[2]]
    assert joined(replace(study, publish=False), [new]) == [new]
    assert COLUMNS["each run"](new) == "100%, 100%" and COLUMNS["commit"](new) == "decade"


@pytest.mark.parametrize(("frames", "shown"), [(16 * 2560 - 1, False), (16 * 2560, True)])
def test_a_run_in_which_only_success_ends_an_episode_shows_no_curve(tmp_path: Path, frames: int, shown: bool) -> None:
    """DoorKey-16x16 gives an episode 2,560 steps; its training success is 100 % until the first one fails."""
    config = load(EXPERIMENTS.parent / "configs" / "doorkey_16x16.yaml", [f"train.frames={frames}"])
    (tmp_path / "config.yaml").write_text(dump(config))
    (tmp_path / "metrics.csv").write_text("frames,tag,value\n" + "".join(f"{n},train/success,1.0\n" for n in (1, 2)))
    (run,) = arms_of([TrainedRun("arm", tmp_path)])
    assert ("train/success" in run.curves) == shown
