"""Speed of the agent: training, the phases of an update, and decisions, as markdown tables.

python benchmarks/speed.py [--config configs/doorkey_8x8.yaml] [--threads 1] [--device cpu] [key=value ...]
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from timing import Acting, Level, Setting, act, phases, training_speed

from hjepa.config import ConfigError, UserError
from hjepa.config.registry import kinds
from hjepa.eval.stats import percentile
from hjepa.train.hardware import hardware
from hjepa.train.run import commit, git

FOLDER = Path(__file__).parent
BATCHES = (1, 16)
CANDIDATES = (16, 64, 256, 1024)
HORIZONS = (1, 2, 4, 8)
FIXED_CANDIDATES, FIXED_HORIZON = 256, 4


@dataclass(frozen=True)
class Table:
    """A heading, a sentence, and cells."""

    title: str
    text: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return f"## {self.title}\n\n{self.text}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def training(setting: Setting, given: argparse.Namespace) -> Table:
    """Speed of training and milliseconds of each phase, a column a number of levels."""
    columns = []
    for count in given.levels:
        levels = setting.levels(count)
        config = setting.config(levels)
        speed, times = (
            training_speed(setting, levels, given.rounds),
            phases(setting, config, given.repeats, given.decisions),
        )
        steps = config.train.frames_per_update / config.env.num_envs
        total = sum(time * (steps if name in ("act", "environment step") else 1) for name, time in times.items())
        rest = 1000 / speed.updates_per_second - total
        columns.append(
            {"updates a second": f"{speed.updates_per_second:.2f}", "frames a second": f"{speed.frames_per_second:.0f}"}
            | {f"{name}, ms": f"{time:.2f}" for name, time in times.items()}
            | {"sum over an update, ms": f"{total:.1f}", "the rest of an update, ms": f"{rest:.1f}"}
        )
        tell(f"training, {in_words(count)}")
    text = (
        "Updates and frames a second are those of `hjepa train`, scalars logged, held-out episodes and "
        f"pictures not. Act and environment step are one step of all {config.env.num_envs} environments, of "
        f"which an update has {steps:g}; the phases of the loss are the forward pass, of all levels together; "
        "optimiser is clipping, AdamW and the moving averages; the rest is storing, tracking, logging and "
        "Lightning, and what differs between a phase alone and within a run."
    )
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return Table("Training", text, ["", *map(in_words, given.levels)], rows)


def decisions(setting: Setting, given: argparse.Namespace) -> Table:
    """Time of a decision by mode, planner, levels and batch."""
    ways = [("1", "none"), ("2", "as configured"), *(("2", kind) for kind in kinds("planner"))]
    rows = []
    for mode, planner in ways:
        cells = []
        for count in given.levels:
            levels = setting.levels(count)
            if planner in kinds("planner"):
                levels = [level | {"planner": {"kind": planner}} for level in levels]
            cells += [shown(timed(setting, levels, batch, int(mode), given.decisions)) for batch in BATCHES]
        rows.append([mode, planner, *cells])
        tell(f"decisions, mode {mode}, planner {planner}")
    header = [f"{in_words(count)}, batch {batch}" for count in given.levels for batch in BATCHES]
    text = (
        "Milliseconds of a decision for the whole batch, median / 95th percentile. A planner stands at every "
        "level, with its own default settings and the config's horizons. A level keeps its subgoal until it "
        "is due, reached or overtaken, so that not every decision plans at every level."
    )
    return Table("Decisions", text, ["mode", "planner", *header], rows)


def growth(setting: Setting, given: argparse.Namespace) -> Table:
    """Time and predictor evaluations of a decision as the search grows."""
    (lowest,) = setting.levels(1)
    cases: list[tuple[str, str, list[Level]]] = []
    for candidates in CANDIDATES:
        cases.append(("candidates", str(candidates), [searching(lowest, candidates, FIXED_HORIZON)]))
    for horizon in HORIZONS:
        cases.append(("horizon", str(horizon), [searching(lowest, FIXED_CANDIDATES, horizon)]))
    for count in given.levels:
        cases.append(("levels", str(count), setting.levels(count)))
    rows = []
    for what, value, levels in cases:
        acting = [timed(setting, levels, batch, 2, given.decisions) for batch in BATCHES]
        rows.append([what, value, f"{acting[0].evaluations:.1f}", *map(shown, acting)])
        tell(f"growth, {what} {value}")
    text = (
        f"Mode 2. Candidates at a horizon of {FIXED_HORIZON} and horizons with {FIXED_CANDIDATES} candidates: "
        "one level, random shooting. Levels: as configured. Evaluations are those of the predictor, a "
        "decision of one environment, mean; milliseconds, median / 95th percentile."
    )
    return Table("Growth", text, ["", "value", "evaluations", *(f"batch {batch}, ms" for batch in BATCHES)], rows)


def searching(level: Level, candidates: int, horizon: int) -> Level:
    """A level that shoots at random."""
    return level | {"horizon": horizon, "planner": {"kind": "shooting", "candidates": candidates}}


def timed(setting: Setting, levels: list[Level], batch: int, mode: int, count: int) -> Acting:
    """Act with new weights for `count` decisions."""
    config = setting.config(levels)
    return act(setting.agent(config), config.env.id, batch, 1 if mode == 1 else 2, count)


def shown(acting: Acting) -> str:
    """Median and 95th percentile of a decision."""
    return f"{median(acting.decision_ms):.1f} / {percentile(np.array(acting.decision_ms), 95):.1f}"


def in_words(levels: int) -> str:
    return f"{levels} level{'s' * (levels > 1)}"


def tell(done: str) -> None:
    print(f"measured: {done}", file=sys.stderr, flush=True)


PARTS = {"training": training, "decisions": decisions, "growth": growth}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the tables; the status is 2 for the user's mistakes."""
    given = parser().parse_intermixed_args(arguments)
    try:
        setting = chosen(given)
        tables = [PARTS[name](setting, given) for name in given.parts]
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    told = origin(given, sys.argv[1:] if arguments is None else arguments)
    lines = "".join(f"{name}: `{value}`  \n" for name, value in told.items())
    document = "\n".join(
        ["# Speed\n", f"{lines}\nWall times. Weights are the initial ones.\n", *(table.markdown() for table in tables)]
    )
    print(document)
    given.out.write_text(document)
    if given.json is not None:
        parts = {table.title.lower(): [table.header, *table.rows] for table in tables}
        given.json.write_text(json.dumps(told | parts, indent=1) + "\n")
    return 0


def chosen(given: argparse.Namespace) -> Setting:
    """Where and how it is run. ConfigError for a GPU or a folder that is not there."""
    if given.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: there is no GPU that torch can use (got 'cuda')")
    for path in [given.out] + [given.json] * (given.json is not None):
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no folder to write it to")
    torch.set_num_threads(given.threads)
    return Setting(
        given.config, tuple(given.overrides), torch.device(given.device), given.precision == "bf16-mixed", given.compile
    )


def origin(given: argparse.Namespace, words: Sequence[str]) -> dict[str, str]:
    """What the figures come from."""
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return {
        "command": f"python benchmarks/speed.py {shlex.join(words)}".strip(),
        "config": " ".join([given.config.stem, *given.overrides]),
        "hardware": hardware(),
        "device": f"{given.device}, {given.precision}{', compiled' * given.compile}",
        "torch": torch.__version__,
        "commit": commit() + changed,
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python benchmarks/speed.py", description="Speed of the agent.")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="settings over those of the config")
    made.add_argument("--config", type=Path, default=FOLDER.parent / "configs" / "doorkey_8x8.yaml", metavar="FILE")
    made.add_argument("--threads", type=positive, default=1, metavar="N", help="threads of torch (%(default)s)")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of the update")
    made.add_argument("--compile", action="store_true", help="compile perception, as train.compile does")
    made.add_argument("--levels", type=positive, nargs="+", default=[1, 2, 3], metavar="N", help="(1 2 3)")
    made.add_argument(
        "--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    made.add_argument("--repeats", type=positive, default=30, metavar="N", help="timed calls of a phase (%(default)s)")
    made.add_argument("--decisions", type=positive, default=50, metavar="N", help="timed decisions (%(default)s)")
    made.add_argument(
        "--rounds", type=positive, default=5, metavar="N", help="timed rounds of 25 updates (%(default)s)"
    )
    made.add_argument("--out", type=Path, default=FOLDER / "speed.md", metavar="FILE", help="(benchmarks/speed.md)")
    made.add_argument("--json", type=Path, metavar="FILE", help="the same as JSON")
    return made


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return value


if __name__ == "__main__":
    sys.exit(main())
