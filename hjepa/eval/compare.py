"""`hjepa compare`: learning curves by group, frames to a success rate, IQM with intervals, and paired tests."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from hjepa.eval.runs import SUCCESS_TAGS, RunData, common_grid, frames_to, read_runs
from hjepa.eval.stats import Interval, interquartile_mean, paired_test, stratified_bootstrap

LAST_POINTS = 5
"""Points at the end of a learning curve whose mean is a run's final success."""
PICTURE = Path("compare.png")


@dataclass(frozen=True)
class GroupRow:
    """Runs that differ in their seed only."""

    group: str
    label: str
    """The group in a few words."""
    runs: int
    final_success: float
    """Interquartile mean over the runs."""
    success_ci95: Interval | None
    """Bootstrap over the runs; None for a single run."""
    frames_to_50: float | None
    """Median over the runs; None where half of them or more never got there."""
    frames_to_90: float | None


@dataclass(frozen=True)
class PairRow:
    """Two runs on the same held-out layouts."""

    first: str
    second: str
    result: str
    """Which evaluation: environment, mode, levels and suite."""
    episodes: int
    first_rate: float
    second_rate: float
    first_only: int
    second_only: int
    p_value: float
    """McNemar, exact, two-sided; not corrected for the number of pairs."""


def compare(runs: Sequence[Path], as_json: bool) -> int:
    """Print tables, write compare.png to the working folder, and return the exit status.

    Success is held-out where every run has it, else that of training. Raises ConfigError for folders that do
    not exist.
    """
    data = read_runs(runs)
    tags = shared_tags(data)
    groups, pairs = group_rows(data, tags), pair_rows(data)
    for note in (note for run in data for note in run.notes):
        print(note)
    _show(data, groups, pairs, tags)
    if any(run.success(tags) for run in data):
        draw_curves(data, tags, PICTURE)
        print(f"{PICTURE}: learning curves")
    if as_json:
        document = {
            "tag": tags,
            "groups": [asdict(row) for row in groups],
            "pairs": [asdict(row) for row in pairs],
        }
        print(json.dumps(document))
    return 0


def shared_tags(data: Sequence[RunData]) -> list[str]:
    """The success tag that all runs with a curve have, so that like is compared with like; else all, best first."""
    with_curves = [run for run in data if run.success(SUCCESS_TAGS) is not None]
    for tag in SUCCESS_TAGS:
        if with_curves and all(tag in run.curves for run in with_curves):
            return [tag]
    return list(SUCCESS_TAGS)


def group_rows(data: Sequence[RunData], tags: Sequence[str]) -> list[GroupRow]:
    """One row a group of runs with a learning curve, in the order in which the groups are met."""
    rows = []
    for group, label in {run.group: run.label for run in data}.items():
        curves = [curve for run in data if run.group == group and (curve := run.success(tags))]
        if not curves:
            continue
        final = np.array([curve.values[-LAST_POINTS:].mean() for curve in curves])
        interval = stratified_bootstrap([final]) if len(final) > 1 else None
        rows.append(
            GroupRow(
                group,
                label,
                len(curves),
                float(interquartile_mean(final)),
                interval,
                _median([frames_to(curve, 0.5) for curve in curves]),
                _median([frames_to(curve, 0.9) for curve in curves]),
            )
        )
    return rows


def pair_rows(data: Sequence[RunData]) -> list[PairRow]:
    """One row for two runs and an evaluation that both have, over the layouts that both played."""
    rows = []
    for first, second in combinations(data, 2):
        for name in sorted(set(first.results) & set(second.results)):
            one, other = (_successes(run, name) for run in (first, second))
            shared = sorted(set(one) & set(other))
            if not shared:
                continue
            left, right = (np.array([outcome[seed] for seed in shared]) for outcome in (one, other))
            first_only, second_only, p_value = paired_test(left, right)
            rates = float(left.mean()), float(right.mean())
            rows.append(
                PairRow(
                    first.name, second.name, name.removesuffix(".json"), len(shared), *rates, first_only,
                    second_only, p_value,
                )
            )  # fmt: skip
    return rows


def draw_curves(data: Sequence[RunData], tags: Sequence[str], path: Path) -> None:
    """A picture of `plot_curves`."""
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    plot_curves(figure.subplots(), data, tags)
    FigureCanvasAgg(figure).print_png(path)


def plot_curves(axes: Axes, data: Sequence[RunData], tags: Sequence[str]) -> None:
    """A rate over frames, a colour a group: mean and range over its runs, and every run as a thin line."""
    labels = {run.group: run.label for run in data}
    for number, group in enumerate(labels):
        curves = [curve for run in data if run.group == group and (curve := run.success(tags))]
        if not curves:
            continue
        grid, values = common_grid(curves)
        color = f"C{number % 10}"
        runs = f"{len(curves)} run{'s' if len(curves) > 1 else ''}"
        axes.plot(grid, values.mean(0), color=color, linewidth=2, label=f"{labels[group]} ({runs})")
        if len(curves) > 1:
            axes.fill_between(grid, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
            for row in values:
                axes.plot(grid, row, color=color, linewidth=0.5, alpha=0.6)
    axes.set(xlabel="environment frames", ylabel=tags[0] if len(tags) == 1 else "success", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _successes(run: RunData, name: str) -> dict[int, bool]:
    result = run.results[name]
    return {seed: value > 0 for seed, value in zip(result["seeds"], result["returns"], strict=True)}


def _median(frames: Sequence[int | None]) -> float | None:
    # Runs that never got there count as infinite, not as missing.
    median = float(np.median([np.inf if value is None else value for value in frames]))
    return median if np.isfinite(median) else None


def _show(data: Sequence[RunData], groups: Sequence[GroupRow], pairs: Sequence[PairRow], tags: Sequence[str]) -> None:
    console = Console()
    tables = [_group_table(groups, tags)] if groups else []
    if any(run.group != run.label for run in data):
        tables.append(_settings_table(data))
    for table in [*tables, *([_pair_table(pairs)] if pairs else [])]:
        console.print(table)


def _group_table(groups: Sequence[GroupRow], tags: Sequence[str]) -> Table:
    table = _table(f"success ({tags[0] if len(tags) == 1 else 'held-out where there is any, else training'})")
    for column in ("group", "runs", "final (IQM)", "95 % interval", "to 50 %", "to 90 %"):
        table.add_column(column, overflow="fold")
    for row in groups:
        interval = "one run" if row.success_ci95 is None else "{:.1%} to {:.1%}".format(*row.success_ci95)
        reached = [f"{value:,.0f}" if value is not None else "never" for value in (row.frames_to_50, row.frames_to_90)]
        table.add_row(row.label, str(row.runs), f"{row.final_success:.1%}", interval, *reached)
    table.caption = "to 50 %, to 90 %: frames, median over the runs"
    return table


def _settings_table(data: Sequence[RunData]) -> Table:
    """A row a setting, a column a group."""
    table = _table("settings in which the groups differ")
    settings = {run.label: run.settings for run in data}
    table.add_column("setting", no_wrap=True)
    for column in settings:
        table.add_column(column, overflow="fold")
    for key in dict.fromkeys(key for one in settings.values() for key in one):
        table.add_row(key, *(str(one.get(key, "")) for one in settings.values()))
    return table


def _pair_table(pairs: Sequence[PairRow]) -> Table:
    table = _table("paired on shared held-out layouts (McNemar, exact)")
    for column in ("first", "second", "evaluation", "layouts", "success", "only 1st/2nd", "p"):
        table.add_column(column, overflow="fold")
    for pair in pairs:
        rates = f"{pair.first_rate:.1%} / {pair.second_rate:.1%}"
        only = f"{pair.first_only} / {pair.second_only}"
        table.add_row(pair.first, pair.second, pair.result, str(pair.episodes), rates, only, f"{pair.p_value:.3g}")
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
