"""`hjepa watch`: held-out episodes as GIFs with subgoals, distances and energies, and a contact sheet."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hjepa.config import ConfigError
from hjepa.envs.seeds import held_out_seed
from hjepa.eval.load import load
from hjepa.eval.rollout import run_episodes
from hjepa.log.draw import Picture, column_of, label, pad, row_of
from hjepa.log.gif import save_gif, save_png
from hjepa.log.probe import Probe, load_probe
from hjepa.log.strips import LEVEL_COLORS, episode_strip, reason_of
from hjepa.log.trace import Recorder, Trace

MAX_PICTURES = 200
"""Longer episodes are thinned out to this many pictures; moments of a new subgoal are kept first."""
SHEET_PICTURES = 5
CURSOR = (255, 255, 255)


def watch(run: Path, out: Path | None, episodes: int, seed: int) -> int:
    """Write one GIF an episode and a contact sheet, and say where; returns the exit status.

    `out` None is RUN/watch/episode.gif; the first episode gets that name, the next `..._1.gif`, the sheet
    `..._sheet.png`. Raises ConfigError for the user's mistakes.
    """
    if episodes < 1:
        raise ConfigError(f"--episodes: must be at least 1 (got {episodes})")
    if out is not None and out.suffix != ".gif":
        raise ConfigError(f"--out: must end in .gif (got {out})")
    loaded = load(run)
    target = out or loaded.folder / "watch" / "episode.gif"
    probe = load_probe(loaded.folder)
    if probe is None:
        print("this run has no probe (log.probe): subgoals are shown by their distance only")
    recorder = Recorder(loaded.config.env.id, limit=episodes)
    seeds = [held_out_seed(seed, index) for index in range(episodes)]
    run_episodes(loaded.agent, loaded.config.env.id, seeds, 2, recorder=recorder)
    traces = sorted(recorder.traces, key=lambda trace: seeds.index(trace.seed))
    rows = []
    for number, trace in enumerate(traces):
        path = target if number == 0 else target.with_name(f"{target.stem}_{number}.gif")
        save_gif(path, episode_animation(trace, probe, loaded.agent.spec.drives), fps=5.0)
        outcome = "success" if trace.success else "failure"
        print(f"{path}: {outcome} after {trace.length} steps, seed {trace.seed}")
        rows.append(_sheet_row(trace, probe))
    sheet = target.with_name(f"{target.stem}_sheet.png")
    save_png(sheet, column_of(rows, gap=12))
    print(f"{sheet}: contact sheet")
    return 0


def episode_animation(trace: Trace, probe: Probe | None, drives: tuple[str, ...]) -> UInt8[np.ndarray, "T H W 3"]:
    """Strip and plots of an episode, one picture a record (thinned out where it is long)."""
    records = chosen_records(trace, MAX_PICTURES)
    strip = episode_strip(trace, probe, records=records)
    plots, places = plot_panel(trace, drives, max(strip.shape[2], 420))
    pictures = []
    for picture, step in zip(strip, records, strict=True):
        panel = plots.copy()
        for place in places:
            panel[:, int(place[step])] = CURSOR
        pictures.append(column_of([picture, panel]))
    return np.stack(pictures)


def chosen_records(trace: Trace, limit: int) -> list[int]:
    """Records to show: first, last, new subgoals (up to half of them), and others evenly between."""
    last = trace.length
    if last + 1 <= limit:
        return list(range(last + 1))
    new = [step for step in range(last) if any(_is_new(trace, level, step) for level in range(len(trace.levels)))]
    evenly = np.linspace(0, last, limit).round().astype(int).tolist()
    if len(new) > limit // 2:
        new = [new[index] for index in np.linspace(0, len(new) - 1, limit // 2).round().astype(int)]
    rest = [step for step in evenly if step not in set(new)]
    keep = max(limit - len(new), 2)
    picked = [rest[index] for index in np.linspace(0, len(rest) - 1, min(keep, len(rest))).round().astype(int)]
    return sorted({0, last, *new, *picked})


def plot_panel(trace: Trace, drives: tuple[str, ...], width: int) -> tuple[Picture, tuple[np.ndarray, np.ndarray]]:
    """Distances to subgoals and energies over the episode, and each record's pixel column in both plots."""
    figure = Figure(figsize=(width / 100, 1.9), dpi=100, facecolor="#18181c", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _plot_distances(left, trace)
    _plot_energies(right, trace, drives)
    for axes in (left, right):
        axes.set_facecolor("#202026")
        axes.tick_params(colors="#c8c8c8", labelsize=6)
        axes.set_xlim(0, max(trace.length, 1))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=6, facecolor="#202026", labelcolor="#e0e0e0", edgecolor="#404048", loc="best")
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    steps = np.arange(trace.length + 1)
    columns = [axes.transData.transform(np.stack([steps, 0 * steps], 1))[:, 0] for axes in (left, right)]
    clipped = [np.clip(column.round().astype(int), 0, picture.shape[1] - 1) for column in columns]
    return picture, (clipped[0], clipped[1])


def _plot_distances(axes: Axes, trace: Trace) -> None:
    axes.set_title("distance to subgoal (1: one typical step above)", fontsize=7, color="#e0e0e0")
    for level, decision in enumerate(trace.levels):
        if not bool(decision.subgoal.active.any()):
            continue
        color = tuple(channel / 255 for channel in LEVEL_COLORS[(level + 1) % len(LEVEL_COLORS)])
        axes.plot(decision.distance.numpy(), color=color, linewidth=1.0, label=f"level {level}")
        for step in range(trace.length):
            if _is_new(trace, level, step):
                axes.axvline(step, color=color, alpha=0.25, linewidth=0.7)


def _plot_energies(axes: Axes, trace: Trace, drives: tuple[str, ...]) -> None:
    axes.set_title("energies (lower is better)", fontsize=7, color="#e0e0e0")
    weighted = (trace.energies * trace.intrinsic_weights).numpy()
    for number, name in enumerate(drives):
        axes.plot(weighted[:, number], linewidth=0.9, label=name)
    if trace.levels:
        axes.plot(trace.levels[0].value.numpy(), linewidth=0.9, linestyle="--", label="to go, level 0")
    finite = trace.levels[0].plan_energy.isfinite() if trace.levels else None
    if finite is not None and bool(finite.any()):
        axes.plot(trace.levels[0].plan_energy.numpy(), linewidth=0.9, linestyle=":", label="plan, level 0")


def _is_new(trace: Trace, level: int, step: int) -> bool:
    active = bool(trace.levels[level].subgoal.active[step])
    return active and reason_of(trace, level, step) != "kept"


def _sheet_row(trace: Trace, probe: Probe | None) -> Picture:
    steps = np.unique(np.linspace(0, trace.length, SHEET_PICTURES).round().astype(int)).tolist()
    strip = episode_strip(trace, probe, tile=18, records=steps)
    outcome = "success" if trace.success else "failure"
    row = row_of(list(strip), gap=12)
    return label(pad(row, row.shape[0], row.shape[1]), f"seed {trace.seed}: {outcome} after {trace.length} steps", 13)
