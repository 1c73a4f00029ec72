"""Many runs from one config: a run folder for each combination of overrides, several at a time, resumable."""

import json
import re
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from hjepa.config.core import ConfigError, ConfigModel
from hjepa.config.errors import explain
from hjepa.config.jobs import Job, run_jobs
from hjepa.config.load import dump, load, read_mapping
from hjepa.config.schema import RunConfig

CHECKPOINT = re.compile(r"step_(\d+)")


class SweepConfig(ConfigModel):
    """A sweep file."""

    config: str
    """The config all runs begin from, relative to the sweep file."""
    dir: str = Field(min_length=1)
    """Folder of the run folders, relative to the working directory."""
    grid: dict[str, list[JsonValue]] = Field(default_factory=dict)
    """Dotted settings and their values: every combination is a run."""
    list: tuple[dict[str, JsonValue], ...] = ({},)
    """Sets of dotted settings: each is combined with the whole grid."""
    arms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """In place of the list: sets of dotted settings with names, which stand for them in the folders' names."""


class Run(ConfigModel):
    """One run of a sweep."""

    arm: str
    """Name of its set of settings; empty where it has none."""
    dir: Path
    overrides: tuple[str, ...]


def sweep(path: Path, parallel: int = 1, overrides: Sequence[str] = ()) -> int:
    """Do every run that is not done yet; 0 when all are. ConfigError, before the first, for any mistake.

    `overrides` hold for every run, over the sweep's own settings.
    """
    spec = read_sweep(path)
    jobs = pending(spec, path.parent / spec.config, overrides)
    failed = run_jobs(jobs, parallel)
    for job in failed:
        print(f"{job.label}: failed", file=sys.stderr, flush=True)
    runs = len(combinations(spec))
    print(f"{runs - len(failed)} of {runs} runs done in {spec.dir}")
    return 1 if failed else 0


def pending(spec: SweepConfig, base: Path, overrides: Sequence[str] = ()) -> list[Job]:
    """The runs from the config `base` that are not done yet, to be begun or gone on with; says which are done."""
    folders = [text for text in overrides if text.startswith(("run=", "run.dir="))]
    if folders:
        raise ConfigError(f"run.dir: every run of a sweep has a folder of its own (got {folders[0]!r})")
    runs = [(run, load(base, (*run.overrides, *overrides))) for run in combinations(spec)]
    for run, config in runs:
        check_same(run.dir, config)
    jobs = []
    for number, (run, config) in enumerate(runs, 1):
        label = f"[{number}/{len(runs)}] {run.dir.name}"
        if is_done(run.dir, config):
            print(f"{label}: done before", flush=True)
            continue
        # A folder that is there was checked to hold the user's own config, plug-ins included.
        resume = ("--resume", str(run.dir), "--trust-plugins")
        arguments = resume if run.dir.exists() else (str(base), *run.overrides, *overrides)
        log = run.dir.with_name(f"{run.dir.name}.log")
        jobs.append(Job(f"{label} {'resumed' if run.dir.exists() else 'trained'}", ("train", *arguments), log))
    return jobs


def read_sweep(path: Path) -> SweepConfig:
    """The sweep in a file. ConfigError for every mistake in it."""
    root = read_mapping(path)
    try:
        spec = SweepConfig.model_validate_json(json.dumps(root))
    except ValidationError as error:
        raise explain(error, root, SweepConfig) from error
    for key, values in spec.grid.items():
        if not values:
            raise ConfigError(f"grid.{key}: needs at least one value (got [])")
    return spec


def combinations(spec: SweepConfig) -> list[Run]:
    """Every run. ConfigError where two would be the same, or both arms and a list are given."""
    if spec.arms and "list" in spec.model_fields_set:
        raise ConfigError("list: a sweep has a list, or arms, which are a list with names; not both")
    runs = []
    for arm, single in [*spec.arms.items()] or [("", settings) for settings in spec.list]:
        for values in product(*spec.grid.values()):
            varied = dict(zip(spec.grid, values, strict=True))
            settings = {**single, **varied}
            name = run_name(varied if arm else settings, arm)
            run_dir = Path(spec.dir) / name
            overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
            runs.append(Run(arm=arm, dir=run_dir, overrides=(*overrides, f"run.dir={json.dumps(str(run_dir))}")))
    repeated = [run.dir.name for number, run in enumerate(runs) if run.dir in {one.dir for one in runs[:number]}]
    if repeated:
        raise ConfigError(f"list: two runs would have the same folder (got {repeated[0]})")
    return runs


def run_name(settings: dict[str, JsonValue], arm: str = "") -> str:
    """A folder's name that tells the arm and what was set: `train.seed=1,env.num_envs=8`."""
    parts = [arm] if arm else []
    parts += [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
    return re.sub(r"[^\w.,=+-]+", "-", ",".join(parts))[:200] or "run"


def check_same(run_dir: Path, config: RunConfig) -> None:
    """ConfigError where a run folder is there that was made with another config."""
    if not run_dir.exists():
        return
    path = run_dir / "config.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != dump(config):
        raise ConfigError(f"{run_dir}: was not made with this sweep's config; move it away, or name another dir")


def is_done(run_dir: Path, config: RunConfig) -> bool:
    """Whether a run folder holds the checkpoint of the last update."""
    train = config.train
    updates = max((train.frames - train.prefill) // train.frames_per_update, 1)
    steps = [CHECKPOINT.match(path.name) for path in (run_dir / "checkpoints").glob("step_*")]
    return any(step is not None and int(step[1]) >= updates for step in steps)
