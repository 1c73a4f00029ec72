"""What the studies share: training a sweep, playing held-out episodes, and writing down what came of it."""

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydantic import JsonValue

from hjepa.cli import main as hjepa
from hjepa.config import ConfigError, UserError, load
from hjepa.config.jobs import Job, run_jobs
from hjepa.config.sweep import SweepConfig, combinations, pending, read_sweep
from hjepa.envs.make import env_spec
from hjepa.eval.runs import RunData, read_runs

Row = TypeVar("Row")

RESULTS = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.DOTALL)
"""The part of a study's README that is made from its results."""


@dataclass(frozen=True)
class TrainedRun:
    """A run of a study."""

    arm: str
    folder: Path


@dataclass(frozen=True)
class Study:
    """A folder of `experiments`, and how much of it is asked for."""

    folder: Path
    sweep: SweepConfig
    jobs: int
    episodes: int
    publish: bool
    overrides: tuple[str, ...]
    command: str
    arms: tuple[str, ...] = ()
    """All arms of the sweep file, of which `sweep` may have but some."""

    def published(self) -> list[dict[str, Any]]:
        """Rows of results.json that stay as they are where others are published: of arms that are not asked for."""
        source = self.folder / "results.json"
        others = set(self.arms) - set(self.sweep.arms)
        if not self.publish or not others or not source.exists():
            return []
        return [row for row in json.loads(source.read_text())["rows"] if row["arm"] in others]

    def train(self) -> list[TrainedRun]:
        """Train what is not trained yet, and return all of the runs; leaves with status 1 where one failed."""
        base = self.folder / self.sweep.config
        if failed := run(pending(self.sweep, base, self.overrides), self.jobs):
            sys.exit(f"{len(failed)} runs failed, the first: {failed[0].label}")
        return [TrainedRun(one.arm, one.dir) for one in combinations(self.sweep)]

    def play(self, runs: Sequence[TrainedRun], modes: Sequence[str]) -> None:
        """Play held-out episodes, one run after another, so that decisions are timed on a machine at rest."""
        torch.set_num_threads(1)
        for trained in runs:
            for mode in modes:
                if any(int(result["episodes"]) == self.episodes for result in results(trained.folder, mode)):
                    continue
                options = ("--episodes", str(self.episodes), "--mode", mode)
                if hjepa(["eval", str(trained.folder), *options]) != 0:
                    sys.exit(f"{trained.folder}: held-out episodes failed")

    def finish(self, rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]], figure: Figure) -> int:
        """Write results.json, table.md and figure.png beside the runs, and with --publish into the study; 0."""
        target = self.folder if self.publish else Path(self.sweep.dir)
        table = markdown(rows, columns)
        origin = provenance(Path(run.dir) for run in combinations(self.sweep)) | {"command": self.command}
        earlier = {commit for row in self.published() for commit in row["commit"].split(", ")}
        origin["commit"] = ", ".join(sorted({*origin["commit"].split(", "), *earlier}))
        document = origin | {"rows": [asdict(row) for row in rows]}  # type: ignore[call-overload]
        (target / "results.json").write_text(json.dumps(document, indent=1) + "\n")
        FigureCanvasAgg(figure).print_png(target / "figure.png")
        (target / "table.md").write_text(table)
        if self.publish:
            write_readme(self.folder, f"{table}\n![{self.folder.name}](figure.png)\n", origin)
        print(f"{table}\n{target}: results.json, table.md, figure.png")
        return 0


def study(script: str, description: str, arguments: Sequence[str] | None, by_arm: bool = False) -> Study:
    """The study of a script, from its command line, with `--arms` where it can be published `by_arm`. ConfigError for
    mistakes in its sweep."""
    folder = Path(script).parent
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{folder.name}.run", description=description)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings for every run")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="training runs at a time (%(default)s)")
    parser.add_argument("--frames", type=int, metavar="N", help="frames a run is trained for, in place of its config's")
    parser.add_argument("--episodes", type=int, default=200, metavar="N", help="held-out episodes (%(default)s)")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="folder of the runs, in place of the sweep's")
    if by_arm:
        parser.add_argument("--arms", metavar="A,B", help="these arms alone; what is published of others stays")
    parser.add_argument("--publish", action="store_true", help="write table and figure into the study's README")
    given = parser.parse_intermixed_args(arguments)
    sweep = read_sweep(folder / "sweep.yaml")
    sweep = sweep.model_copy(update={"dir": str(given.runs)}) if given.runs else sweep
    arms = tuple(sweep.arms)
    if by_arm and given.arms:
        sweep = sweep.model_copy(update={"arms": chosen(sweep, given.arms.split(","))})
    frames = [f"train.frames={given.frames}"] if given.frames is not None else []
    overrides = ("train.threads=1", *frames, *given.overrides)
    command = command_line(parser, arguments)
    return Study(folder, sweep, given.jobs, given.episodes, given.publish, overrides, command, arms)


def chosen(sweep: SweepConfig, names: Sequence[str]) -> dict[str, dict[str, JsonValue]]:
    """The settings of some arms, in the order of the sweep. ConfigError for one that there is not."""
    if unknown := [name for name in names if name not in sweep.arms]:
        raise ConfigError(f"--arms: there is no {unknown[0]!r}; there are: {', '.join(sweep.arms) or 'none'}")
    return {name: settings for name, settings in sweep.arms.items() if name in names}


def command_line(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> str:
    """How a script was called, but for where its runs lie, which says nothing of what they are."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    if "--runs" in words:
        place = words.index("--runs")
        del words[place : place + 2]
    return " ".join([parser.prog, *words])


def guarded(main: Callable[[], int]) -> int:
    """Status of a script; the user's mistakes are told in one line, with status 2."""
    try:
        return main()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def run(jobs: Sequence[Job], parallel: int) -> list[Job]:
    """Run jobs, in this process where it is one at a time, and return those that failed."""
    if parallel != 1:
        return run_jobs(jobs, parallel)
    failed = []
    for job in jobs:
        print(job.label, flush=True)
        failed += [job] if hjepa(job.arguments) != 0 else []
    return failed


def results(folder: Path, mode: str) -> list[dict[str, float]]:
    """What `hjepa eval` wrote of a run in a mode."""
    return [json.loads(path.read_text()) for path in sorted((folder / "eval").glob(f"*_mode{mode}_*.json"))]


def arms_of(runs: Sequence[TrainedRun]) -> list[RunData]:
    """Curves of the runs, those of an arm in one group; none of a run in which only success could end an episode."""
    data = read_runs([trained.folder for trained in runs])
    return [
        replace(one, group=trained.arm, label=trained.arm, curves=one.curves if may_fail(trained.folder) else {})
        for one, trained in zip(data, runs, strict=True)
    ]


def may_fail(folder: Path) -> bool:
    """Whether a run was long enough for an episode to run out of time."""
    config = load(folder / "config.yaml")
    return config.train.frames >= config.env.num_envs * env_spec(config.env.id).max_steps


def dots(axes: Axes, values: Mapping[str, Sequence[float]], color: str = "C0", shift: float = 0.0) -> None:
    """A bar for the mean of each name's values, and a dot for every one of them."""
    places = [place + shift for place in range(len(values))]
    axes.bar(places, [sum(each) / len(each) for each in values.values()], width=0.35, color=color, alpha=0.45)
    for place, each in zip(places, values.values(), strict=True):
        axes.plot([place] * len(each), list(each), "o", color=color, markersize=4)
    crowded = sum(map(len, values)) > 60
    slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(values)), list(values), fontsize=7 if crowded else 8, **slant)
    axes.grid(axis="y", alpha=0.25)


def markdown(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> str:
    """A table."""
    lines = [list(columns), ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def provenance(folders: Iterable[Path]) -> dict[str, str]:
    """Commits, seeds, frames and hardware of the runs, in words."""
    kept = [json.loads((folder / "provenance.json").read_text()) for folder in folders]
    return {
        "commit": ", ".join(sorted({one["commit"] for one in kept})),
        "seeds": ", ".join(sorted({str(one["seed"]) for one in kept})),
        "machine": machine(kept[0]["gpu"]),
    }


def machine(gpu: str) -> str:
    """This machine, in words."""
    return f"{platform.machine()}, {os.cpu_count()} cores, one thread a run, GPU: {gpu}"


def write_readme(folder: Path, shown: str, origin: Mapping[str, str]) -> None:
    """Put what is shown of a study's results, and where they come from, between the marks of its README."""
    words = "".join(f"{name}: `{value}`  \n" for name, value in origin.items())
    readme = folder / "README.md"
    readme.write_text(RESULTS.sub(lambda _: f"\n{shown}\n{words}\n", readme.read_text()))
