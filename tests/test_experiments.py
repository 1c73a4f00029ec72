"""The shipped studies: every run of every sweep has a valid config, and what they publish names its origin."""

import json
from pathlib import Path

import pytest

from hjepa.config import load
from hjepa.config.sweep import combinations, read_sweep

STUDIES = sorted(path.parent for path in (Path(__file__).parent.parent / "experiments").glob("*/sweep.yaml"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_run_of_a_study_has_a_valid_config(study: Path) -> None:
    sweep = read_sweep(study / "sweep.yaml")
    runs = combinations(sweep)
    assert len({run.arm for run in runs}) == max(len(sweep.arms), 1) and len({run.dir for run in runs}) == len(runs)
    for run in runs:
        assert load(study / sweep.config, run.overrides).run.dir == str(run.dir)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_published_results_name_their_origin_and_cover_every_arm(study: Path) -> None:
    results = json.loads((study / "results.json").read_text())
    assert all(results[key] for key in ("commit", "seeds", "machine", "command"))
    assert {row["arm"] for row in results["rows"]} == {
        run.arm for run in combinations(read_sweep(study / "sweep.yaml"))
    }
    assert (study / "table.md").read_text() in (study / "README.md").read_text()
