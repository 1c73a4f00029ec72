"""Success of the arms of a study on held-out episodes, for its table and its figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from matplotlib.axes import Axes

from experiments.common import Study, TrainedRun, arms_of, dots, provenance, results
from hjepa.eval.compare import group_rows, shared_tags


@dataclass(frozen=True)
class Outcome:
    """An arm in one mode; runs of an arm differ in their seed."""

    arm: str
    mode: str
    success: float
    """Mean over the runs."""
    success_by_run: tuple[float, ...]
    mean_length: float
    """Environment steps of an episode."""
    decision_ms: float
    """Median over the runs of the median wall time of a decision."""
    evaluations: float
    """Predictor evaluations a decision."""
    frames_to_50: float | None
    """Median over the runs, of success while training; None where half of them or more never got there, or where only
    success could end an episode."""
    frames_to_90: float | None
    commit: str
    """Of its runs; several are parted by commas."""


COLUMNS: dict[str, Callable[[Outcome], str]] = {
    "arm": lambda row: row.arm,
    "mode": lambda row: row.mode,
    "success": lambda row: f"{row.success:.1%}",
    "each run": lambda row: ", ".join(f"{value:.0%}" for value in row.success_by_run),
    "length": lambda row: f"{row.mean_length:.1f}",
    "decision": lambda row: f"{row.decision_ms:.1f} ms",
    "evaluations": lambda row: f"{row.evaluations:.0f}",
    "frames to 50 %": lambda row: frames(row.frames_to_50),
    "frames to 90 %": lambda row: frames(row.frames_to_90),
    "commit": lambda row: ", ".join(commit[:7] for commit in row.commit.split(", ")),
}


def outcomes(runs: Sequence[TrainedRun], modes: Sequence[str], episodes: int) -> list[Outcome]:
    """What every arm came to in every mode, in the order of the sweep."""
    data = arms_of(runs)
    learned = {row.group: row for row in group_rows(data, shared_tags(data))}
    rows = []
    for arm in dict.fromkeys(trained.arm for trained in runs):
        for mode in modes:
            folders = [trained.folder for trained in runs if trained.arm == arm]
            played = [one for folder in folders for one in results(folder, mode) if one["episodes"] == episodes]
            rates = tuple(one["success_rate"] for one in played)
            rows.append(
                Outcome(
                    arm,
                    mode,
                    mean(rates),
                    rates,
                    mean(one["mean_length"] for one in played),
                    median(one["decision_ms_p50"] for one in played),
                    mean(one["evaluations_per_decision"] for one in played),
                    learned[arm].frames_to_50 if arm in learned else None,
                    learned[arm].frames_to_90 if arm in learned else None,
                    provenance(folders)["commit"],
                )
            )
    return rows


def joined(study: Study, rows: Sequence[Outcome]) -> list[Outcome]:
    """These rows and those published before that stay, in the order of the sweep."""
    return sorted([*rows, *map(outcome_of, study.published())], key=lambda row: (study.arms.index(row.arm), row.mode))


def outcome_of(row: Mapping[str, Any]) -> Outcome:
    """A row of results.json."""
    rates = tuple(row["success_by_run"])
    return Outcome(**{name: value for name, value in row.items() if name != "success_by_run"}, success_by_run=rates)


def draw_success(axes: Axes, rows: Sequence[Outcome]) -> None:
    """Success of every arm, a colour a mode."""
    modes = list(dict.fromkeys(row.mode for row in rows))
    for number, mode in enumerate(modes):
        shift = 0.4 * (number - (len(modes) - 1) / 2)
        dots(axes, {row.arm: row.success_by_run for row in rows if row.mode == mode}, f"C{number}", shift)
        axes.bar(0, 0, color=f"C{number}", alpha=0.45, label=f"mode {mode}")
    axes.set(ylim=(0, 1.05), ylabel="success on held-out layouts")
    axes.legend(fontsize=8, loc="upper left")


def frames(value: float | None) -> str:
    """Frames in words."""
    return "never" if value is None else f"{value:,.0f}"
