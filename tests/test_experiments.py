"""The shipped studies: every run of every sweep has a valid config, and what they publish names its origin."""

import json
from pathlib import Path

import pytest

from hjepa.config import load
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
