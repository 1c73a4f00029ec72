"""A trained agent and what evaluation needs to know of its run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hjepa.agent import Agent
from hjepa.build import build_agent
from hjepa.config import ConfigError, RunConfig, load_run
from hjepa.data import checkpoint
from hjepa.envs.make import env_spec

AVERAGES = "target_"
"""How the names of moving averages begin: what training compares with."""


@dataclass(frozen=True)
class LoadedRun:
    """An agent as it was at a checkpoint."""

    agent: Agent
    config: RunConfig
    frames: int
    """Environment frames it was trained for."""
    folder: Path
    """The run's folder, which results are written to."""


def load(path: Path) -> LoadedRun:
    """Load a run folder (its newest good checkpoint) or a checkpoint folder of one; on the GPU where there is one.

    Only config, tensors and JSON are read, never code. Raises ConfigError where there is nothing usable.
    """
    folder = path if (path / "config.yaml").exists() else path.parent.parent
    if not (folder / "config.yaml").exists():
        raise ConfigError(f"{path}: not a run folder, nor a checkpoint of one")
    config = load_run(folder)
    tensors, meta = newest(folder) if folder == path else checkpoint.load(path)
    agent = build_agent(config, env_spec(config.env.id))
    load_weights(agent, tensors["agent"], path)
    agent.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return LoadedRun(agent, config, int(meta["frames"]), folder)


def load_weights(agent: Agent, weights: dict[str, Tensor], path: Path) -> None:
    """Fill the agent; the moving averages may be missing, since playing does not look at them. ConfigError if more
    is."""
    try:
        missing, unknown = agent.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise ConfigError(f"{path}: the weights do not fit config.yaml: {first}") from error
    wrong = [name for name in missing if not name.startswith(AVERAGES)] + list(unknown)
    if wrong:
        raise ConfigError(f"{path}: the weights do not fit config.yaml: {wrong[0]} is missing or not known")


def newest(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The newest good checkpoint of a run; damaged ones are named on standard error."""
    tensors, meta, skipped = checkpoint.load_latest(folder / "checkpoints")
    for line in skipped:
        print(line, file=sys.stderr)
    return tensors, meta
