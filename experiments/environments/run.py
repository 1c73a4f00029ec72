"""Success on held-out layouts of every run in a folder, by environment and number of levels, with learning curves.

python -m experiments.environments.run runs/environments --publish
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.common import TrainedRun, arms_of, guarded, markdown, provenance, results, write_readme
from hjepa.cli import main as hjepa
from hjepa.config import ConfigError
from hjepa.envs.make import env_spec
from hjepa.eval.compare import plot_curves
from hjepa.eval.runs import RunData, frames_to
from hjepa.eval.stats import wilson_interval

MODES = ("1", "2")
TRAIN_SUCCESS = "train/success"


@dataclass(frozen=True)
class RunRow:
    """A run: what it was trained on, and how it fared on held-out layouts."""

    arm: str
    """Name of its settings in the sweep."""
    env: str
    levels: int
    seed: int
    frames: int
    minutes: float
    """Wall time of training, from the first to the last event that TensorBoard got."""
    frames_to_90: int | None
    """Frames at which 90 % of the last 50 training episodes (exploration included) had succeeded."""
    success: dict[str, float]
    """By mode."""
    interval: dict[str, tuple[float, float]]
    lost: dict[str, int]
    """Episodes by mode that ended without success before their time was up: in lava, or at the wrong object."""
    length: dict[str, float]
    """Mean environment steps of an episode by mode."""
    commit: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the held-out episodes that were not played yet, and write table, figure and results.json."""
    parser = argparse.ArgumentParser(prog="python -m experiments.environments.run", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of run folders")
    parser.add_argument("--episodes", type=int, default=200, metavar="N", help="held-out episodes (%(default)s)")
    parser.add_argument("--publish", action="store_true", help="write table and figure into the study's README")
    given = parser.parse_args(arguments)
    folders = sorted(path.parent for path in given.folder.glob("*/checkpoints") if any(path.iterdir()))
    if not folders:
        raise ConfigError(f"{given.folder}: holds no run folder with a checkpoint")
    play(folders, given.episodes)
    data = arms_of([TrainedRun(arm(folder), folder) for folder in folders])
    rows = [read_row(folder, run, given.episodes) for folder, run in zip(folders, data, strict=True)]
    rows.sort(key=lambda row: (row.env, row.levels, row.seed))
    origin = provenance(folders) | {"command": f"python -m experiments.environments.run {given.folder}"}
    write(Path(__file__).parent if given.publish else given.folder, rows, data, origin, given.publish)
    return 0


def play(folders: Sequence[Path], episodes: int) -> None:
    """Held-out episodes in both modes, where there are none of so many yet; leaves with status 1 where they fail."""
    for folder in folders:
        for mode in MODES:
            if any(int(result["episodes"]) == episodes for result in results(folder, mode)):
                continue
            if hjepa(["eval", str(folder), "--episodes", str(episodes), "--mode", mode]) != 0:
                sys.exit(f"{folder}: held-out episodes failed")


def arm(folder: Path) -> str:
    """Name of a run's settings in the sweep."""
    return folder.name.split(",")[0]


def read_row(folder: Path, run: RunData, episodes: int) -> RunRow:
    """What a run came to."""
    origin = json.loads((folder / "provenance.json").read_text())
    played = {mode: next(one for one in results(folder, mode) if one["episodes"] == episodes) for mode in MODES}
    wins = {mode: round(one["success_rate"] * episodes) for mode, one in played.items()}
    curve = run.curves.get(TRAIN_SUCCESS)
    events = sorted(folder.glob("events.out.tfevents.*"))
    seconds = sum(path.stat().st_mtime - int(path.name.split(".")[3]) for path in events)
    return RunRow(
        arm(folder),
        str(played["1"]["env"]),
        int(played["1"]["levels"]),
        int(origin["seed"]),
        int(played["1"]["frames_trained"]),
        seconds / 60,
        frames_to(curve, 0.9) if curve is not None else None,
        {mode: one["success_rate"] for mode, one in played.items()},
        {mode: wilson_interval(count, episodes) for mode, count in wins.items()},
        {mode: lost(one) for mode, one in played.items()},
        {mode: one["mean_length"] for mode, one in played.items()},
        str(origin["commit"])[:7],
    )


def lost(result: Mapping[str, Any]) -> int:
    """Episodes that ended without reward before they were cut off."""
    limit = env_spec(str(result["env"])).max_steps
    pairs = zip(result["returns"], result["lengths"], strict=True)
    return sum(gain <= 0 and steps < limit for gain, steps in pairs)


COLUMNS = {
    "environment": lambda row: row.env.removesuffix("-v0") + variant(row.arm),
    "levels": lambda row: str(row.levels),
    "seed": lambda row: str(row.seed),
    "frames": lambda row: f"{row.frames:,}",
    "mode 1": lambda row: shown(row, "1"),
    "mode 2": lambda row: shown(row, "2"),
    "lost": lambda row: f"{row.lost['1']}, {row.lost['2']}",
    "steps": lambda row: f"{row.length['1']:.0f}, {row.length['2']:.0f}",
    "90 % in training": lambda row: "never" if row.frames_to_90 is None else f"{row.frames_to_90:,}",
    "training": lambda row: f"{row.minutes:.1f} min",
    "commit": lambda row: row.commit,
}


def variant(arm: str) -> str:
    """What an arm's settings change but for the environment and its frames."""
    named = {"_no_guardrail": ", no guardrail"}
    return "".join(words for name, words in named.items() if arm.endswith(name))


SUMMARY: dict[str, Callable[[Sequence[RunRow]], str]] = {
    "environment": lambda runs: COLUMNS["environment"](runs[0]),
    "levels": lambda runs: str(runs[0].levels),
    "frames": lambda runs: f"{round(runs[0].frames, -3):,}",
    "mode 1, %": lambda runs: each([100 * row.success["1"] for row in runs], "{:.1f}"),
    "mode 2, %": lambda runs: each([100 * row.success["2"] for row in runs], "{:.1f}"),
    "frames to 90 % in training": lambda runs: each([row.frames_to_90 for row in runs], "{:,}", "; "),
    "training, min": lambda runs: each([row.minutes for row in runs], "{:.0f}"),
}
"""The table of all runs in fewer words: those of an arm, which differ in their seeds, in one row."""


def each(values: Sequence[float | None], form: str, between: str = ", ") -> str:
    """The median, and where there are several the values in the order of their seeds; None is "never"."""
    words = ["never" if value is None else form.format(value) for value in values]
    middle = sorted(range(len(values)), key=lambda place: (values[place] is None, values[place] or 0))[len(values) // 2]
    return words[middle] if len(values) == 1 else f"{words[middle]} ({between.join(words)})"


def shown(row: RunRow, mode: str) -> str:
    """Success with its interval."""
    low, high = row.interval[mode]
    return f"{100 * row.success[mode]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def write(
    target: Path, rows: Sequence[RunRow], data: Sequence[RunData], origin: Mapping[str, str], publish: bool
) -> None:
    """Tables, figure and results.json into `target`, and the table into its README where it is the study's own."""
    table = markdown(rows, COLUMNS)
    (target / "results.json").write_text(json.dumps({**origin, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    (target / "table.md").write_text(table)
    arms = [[row for row in rows if row.arm == arm] for arm in dict.fromkeys(row.arm for row in rows)]
    (target / "summary.md").write_text(markdown(arms, SUMMARY))
    figure = draw(rows, data)
    FigureCanvasAgg(figure).print_png(target / "figure.png")
    if publish:
        write_readme(target, f"{table}\n![Success in training over frames, by environment](figure.png)\n", origin)
    print(f"{table}\n{target}: results.json, table.md, summary.md, figure.png")


def draw(rows: Sequence[RunRow], data: Sequence[RunData]) -> Figure:
    """Learning curves, a panel an environment."""
    envs = list(dict.fromkeys(row.env for row in rows))
    figure = Figure(figsize=(14, 3.2 * -(-len(envs) // 4)), dpi=90, layout="constrained")
    panels = figure.subplots(-(-len(envs) // 4), 4, squeeze=False).flatten()
    for panel, env in zip(panels, envs, strict=False):
        runs = [run for run in data if str(run.settings.get("env.id", envs[0])) == env]
        plot_curves(panel, runs, [TRAIN_SUCCESS])
        panel.set_title(env.removesuffix("-v0"), fontsize=9)
        reached = [row.frames_to_90 for row in rows if row.env == env and row.frames_to_90 is not None]
        if reached:
            panel.axvline(median(reached), color="0.5", linewidth=0.8, linestyle=":")
        if (legend := panel.get_legend()) and len({run.group for run in runs}) == 1:
            legend.remove()
    for panel in panels[len(envs) :]:
        panel.set_axis_off()
    return figure


if __name__ == "__main__":
    sys.exit(guarded(main))
