"""What came of the rows, over the seeds that were played: table, figure, and the study's README."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.common import machine, markdown, write_readme
from experiments.goal_reaching.tasks import BINS
from hjepa.eval.stats import paired_test, wilson_interval

FLAT = {"latent": "flat, CEM, distance", "critic": "flat, CEM, critic"}
"""What the rows of each cost are compared with."""
TITLES = [f"{low} to {high - 1}" for low, high in BINS]
"""Fewest actions of the tasks of each bin."""


@dataclass(frozen=True)
class Outcome:
    """A row over the seeds it was played with."""

    name: str
    cost: str
    levels: int
    oracle: bool
    success: dict[int, Bool[np.ndarray, "bins E"]]
    """By seed; all seeds play the same tasks."""
    evaluations: float
    """Predictor evaluations a decision, mean of the seeds."""


def publish(runs: Path, study: Path | None, order: Sequence[str], command: str) -> None:
    """Table and figure of all seeds under `runs`, rows in `order`: beside them or, if given, in the study, where those
    of seeds without a run here stay."""
    # A seed of which no row was played yet is still learning.
    folders = sorted((played.parent for played in runs.glob("seed_*/results.json")), key=seed_of)
    played = {seed_of(folder): json.loads((folder / "results.json").read_text()) for folder in folders}
    kept = dict(sorted((published(study) | played).items())) if study else played
    outcomes = [outcome(name, kept) for name in order if any(name in rows for rows in kept.values())]
    target = study or runs
    FigureCanvasAgg(draw(outcomes)).print_png(target / "figure.png")
    shown = table(outcomes)
    (target / "table.md").write_text(shown)
    print(shown)
    if study is None:
        return
    commits = {row["commit"] for rows in kept.values() for row in rows.values()}
    origin = {
        "commit": ", ".join(sorted(commits)),
        "seeds": ", ".join(map(str, kept)),
        "machine": machine("none"),
        "command": command,
    }
    rows = [{"seed": seed} | each[name] for name in order for seed, each in kept.items() if name in each]
    (study / "results.json").write_text(json.dumps(origin | {"rows": rows}, indent=1) + "\n")
    write_readme(study, f"{shown}\n![goal reaching](figure.png)\n", origin)


def published(study: Path) -> dict[int, dict[str, dict]]:  # type: ignore[type-arg]
    """Rows of a study's results.json, by seed and name."""
    rows: dict[int, dict[str, dict]] = {}  # type: ignore[type-arg]
    if (study / "results.json").exists():
        for row in json.loads((study / "results.json").read_text())["rows"]:
            rows.setdefault(row.pop("seed"), {})[row["name"]] = row
    return rows


def seed_of(folder: Path) -> int:
    """The seed in a run folder's name."""
    return int(folder.name.removeprefix("seed_"))


def outcome(name: str, kept: dict[int, dict[str, dict]]) -> Outcome:  # type: ignore[type-arg]
    """A row from what each seed's results.json has of it."""
    played = {seed: rows[name] for seed, rows in kept.items() if name in rows}
    one = next(iter(played.values()))
    success = {seed: np.array(row["success"], bool) for seed, row in played.items()}
    evaluations = float(np.mean([row["evaluations"] for row in played.values()]))
    return Outcome(name, one["cost"], one["levels"], one["oracle"], success, evaluations)


def table(outcomes: Sequence[Outcome]) -> str:
    """A row an outcome: success in each bin, evaluations, and the comparison with its flat counterpart."""
    columns = {"row": lambda one: one.name}
    for place, title in enumerate(TITLES):
        columns[title] = lambda one, place=place: rate([success[place] for success in one.success.values()])
    columns["evaluations"] = lambda one: f"{one.evaluations:.0f}"
    columns["far, against flat"] = lambda one: against(one, outcomes)
    return markdown(outcomes, columns)


def rate(success: Sequence[Bool[np.ndarray, " E"]]) -> str:
    """A success rate with its Wilson interval over all seeds' tasks and, of several seeds, each one's."""
    every = np.concatenate(success)
    low, high = wilson_interval(int(every.sum()), len(every))
    each = ": " + ", ".join(f"{100 * own.mean():.0f}" for own in success) if len(success) > 1 else ""
    return f"{every.mean():.0%} ({low:.0%} to {high:.0%}){each}"


def against(one: Outcome, outcomes: Sequence[Outcome]) -> str:
    """Tasks of the far bin that only this row or only its flat counterpart solved, of seeds that played both, and
    McNemar's p."""
    flat = next((other for other in outcomes if other.name == FLAT[one.cost]), None)
    if one.levels == 1 or flat is None:
        return ""
    shared = [seed for seed in one.success if seed in flat.success]
    if not shared:
        return ""
    own, other = (np.concatenate([row.success[seed][-1] for seed in shared]) for row in (one, flat))
    more, less, p = paired_test(own, other)
    return f"+{more} -{less}, p = {p:.1g}"


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Success by bin, a bar a row, and a dot a seed where there are several."""
    figure = Figure(figsize=(max(10, 0.75 * len(outcomes)), 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    width = 0.85 / max(len(outcomes), 1)
    for number, one in enumerate(outcomes):
        rates = np.array([success.mean(-1) for success in one.success.values()])
        color = f"C{('latent', 'critic').index(one.cost)}" if not one.oracle else "C2"
        places = np.arange(len(TITLES)) + number * width
        axes.bar(places, rates.mean(0), width * 0.9, label=one.name, color=color, alpha=0.35 + 0.2 * one.levels)
        if len(rates) > 1:
            axes.plot(np.tile(places, len(rates)), rates.flatten(), "k.", markersize=3)
        for place, value, top in zip(places, rates.mean(0), rates.max(0), strict=True):
            axes.text(place, top + 0.015, f"{100 * value:.0f}", ha="center", fontsize=7)
    axes.set_xticks([place + 0.4 for place in range(len(TITLES))], [f"{title} actions" for title in TITLES])
    axes.set(ylim=(0, 1.08), ylabel="success (numbers: %)")
    figure.legend(fontsize=7, ncols=4, loc="outside lower center")
    return figure
