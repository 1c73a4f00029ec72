"""`hjepa diagnose`: the ladder of arms on a run's held-out layouts, and which level is at fault."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from hjepa.config import ConfigError
from hjepa.envs.seeds import held_out_seed
from hjepa.eval.ladder import Arm, Ladder, Pair, climb
from hjepa.eval.load import load
from hjepa.eval.verdict import Verdict, judge

COLORS = {
    "random": "#9a9a9a",
    "mode_1": "#4c9f70",
    "flat": "#4878cf",
    "hierarchical": "#d1603d",
    "oracle": "#8e6bbf",
}


@dataclass(frozen=True)
class Diagnosis:
    """The JSON object on the last line of `hjepa diagnose --json`; its fields are a promise to scripts."""

    env: str
    episodes: int
    suite_seed: int
    levels: int
    frames_trained: int
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    """Every two arms."""
    verdict: Verdict
    notes: tuple[str, ...]
    """Arms left out and why, and what else the numbers must be read with."""


def diagnose(run: Path, episodes: int, seed: int, as_json: bool) -> int:
    """Play every arm on `episodes` held-out layouts of suite `seed`, print what came of it; returns the exit
    status.

    RUN/diagnose gets diagnose.json, which has every episode's result too, and diagnose.png.
    Raises ConfigError for the user's mistakes.
    """
    if episodes < 1:
        raise ConfigError(f"--episodes: must be at least 1 (got {episodes})")
    loaded = load(run)
    env_id = loaded.config.env.id
    ladder = climb(loaded, env_id, [held_out_seed(seed, index) for index in range(episodes)])
    diagnosis = Diagnosis(
        env_id,
        episodes,
        seed,
        len(loaded.config.levels),
        loaded.frames,
        tuple(ladder.arms.values()),
        tuple(ladder.pairs()),
        judge(ladder),
        tuple(ladder.notes),
    )
    folder = loaded.folder / "diagnose"
    folder.mkdir(exist_ok=True)
    _save(folder / "diagnose.json", diagnosis, ladder)
    draw_arms(diagnosis, folder / "diagnose.png")
    _show(diagnosis, run, folder)
    if as_json:
        print(json.dumps(asdict(diagnosis)))
    return 0


def draw_arms(diagnosis: Diagnosis, path: Path) -> None:
    """Success of every arm as a bar, with its interval and what its decisions cost."""
    arms = diagnosis.arms[::-1]
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(arms)), dpi=120, layout="constrained")
    axes = figure.subplots()
    places, rates = np.arange(len(arms)), np.array([arm.success_rate for arm in arms])
    bounds = np.array([arm.success_ci95 for arm in arms]).T
    colors = [COLORS["oracle"] if arm.oracle else COLORS[arm.name.removesuffix("_equal")] for arm in arms]
    hatches = ["//" if arm.oracle else "" for arm in arms]
    axes.barh(places, rates, color=colors, hatch=hatches, edgecolor="white", height=0.7)
    axes.errorbar(rates, places, xerr=np.abs(bounds - rates), fmt="none", ecolor="#303030", capsize=3)
    axes.set_yticks(
        places,
        [f"{arm.name}\n(oracle, diagnosis only)" if arm.oracle else arm.name for arm in arms],
        fontsize=8,
    )
    for place, arm in zip(places, arms, strict=True):
        text = f"{arm.success_rate:.0%}, {arm.evaluations_per_decision:.0f} evaluations a decision"
        axes.text(1.02, float(place), text, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.set(xlim=(0, 1), xlabel="success, 95 % interval", title=_title(diagnosis))
    axes.title.set_fontsize(9)
    axes.grid(axis="x", alpha=0.25)
    FigureCanvasAgg(figure).print_png(path)


def _title(diagnosis: Diagnosis) -> str:
    return f"{diagnosis.env}, {diagnosis.episodes} held-out episodes: {diagnosis.verdict.words[0]}"


def _save(target: Path, diagnosis: Diagnosis, ladder: Ladder) -> None:
    by_episode: dict[str, Any] = {
        name: {"returns": played.returns.tolist(), "lengths": played.lengths.tolist()}
        for name, played in ladder.played.items()
    }
    content = {**asdict(diagnosis), "seeds": list(ladder.seeds), "by_episode": by_episode}
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(target)


def _show(diagnosis: Diagnosis, run: Path, folder: Path) -> None:
    console = Console()
    title = f"{run.name} on {diagnosis.env}: the ladder, {diagnosis.episodes} held-out episodes"
    caption = "search: predictor evaluations a decision; *: knows the true state, for diagnosis only"
    table = Table(title=title, caption=caption, box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("arm", "success", "95 % interval", "return", "length", "decision", "search"):
        table.add_column(column, justify="left" if column == "arm" else "right", no_wrap=True)
    for arm in diagnosis.arms:
        table.add_row(arm.name + " *" * arm.oracle, *_cells(arm))
    console.print(table)
    for arm in diagnosis.arms:
        console.print(f"{arm.name}: {arm.label}", highlight=False, soft_wrap=True)
    for line in (*diagnosis.verdict.words, *diagnosis.notes):
        console.print(line, highlight=False, soft_wrap=True)
    print(f"{folder}: diagnose.json, diagnose.png")


def _cells(arm: Arm) -> tuple[str, ...]:
    low, high = arm.success_ci95
    return (
        f"{arm.success_rate:.0%}",
        f"{low:.0%} to {high:.0%}",
        f"{arm.mean_return:.3f}",
        f"{arm.mean_length:.1f}",
        f"{arm.decision_ms_p50:.1f} ms",
        f"{arm.evaluations_per_decision:.0f}",
    )
