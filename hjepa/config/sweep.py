"""Many runs from one config: a run folder for each combination of overrides, one after another, resumable."""

import json
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from hjepa.config.core import ConfigError, ConfigModel
from hjepa.config.errors import explain
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


class Run(ConfigModel):
    """One run of a sweep."""

    dir: Path
    overrides: tuple[str, ...]


def sweep(path: Path) -> int:
    """Do every run that is not done yet; 0 when all are. ConfigError, before the first, for any mistake."""
    spec = read_sweep(path)
    base = path.parent / spec.config
    runs = [(run, load(base, run.overrides)) for run in combinations(spec)]
    for run, config in runs:
        check_same(run.dir, config)
    failed = 0
    for number, (run, config) in enumerate(runs, 1):
        label = f"[{number}/{len(runs)}] {run.dir.name}"
        if is_done(run.dir, config):
            print(f"{label}: done before", flush=True)
            continue
        print(f"{label}: {'resuming' if run.dir.exists() else 'training'}", flush=True)
        # A folder that is there was checked to hold the user's own config, plug-ins included.
        resume = ["--resume", str(run.dir), "--trust-plugins"]
        arguments = resume if run.dir.exists() else [str(base), *run.overrides]
        status = subprocess.run([sys.executable, "-m", "hjepa", "train", *arguments], check=False).returncode
        if status != 0:
            failed += 1
            print(f"{label}: failed with status {status}", file=sys.stderr, flush=True)
    print(f"{len(runs) - failed} of {len(runs)} runs done in {spec.dir}")
    return 1 if failed else 0


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
    """Every run. ConfigError where two would be the same."""
    runs = []
    for single in spec.list:
        for values in product(*spec.grid.values()):
            settings = {**single, **dict(zip(spec.grid, values, strict=True))}
            run_dir = Path(spec.dir) / run_name(settings)
            overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
            runs.append(Run(dir=run_dir, overrides=(*overrides, f"run.dir={json.dumps(str(run_dir))}")))
    repeated = [run.dir.name for number, run in enumerate(runs) if run.dir in {one.dir for one in runs[:number]}]
    if repeated:
        raise ConfigError(f"list: two runs would have the same folder (got {repeated[0]})")
    return runs


def run_name(settings: dict[str, JsonValue]) -> str:
    """A folder's name that tells what was set: `train.seed=1,env.num_envs=8`."""
    parts = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
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
