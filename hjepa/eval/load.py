"""A trained agent and what evaluation needs to know of its run."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hjepa.agent import Agent
from hjepa.config import RunConfig


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

    Raises ConfigError where there is nothing usable.
    """
    # Training evaluates on held-out layouts, so that it imports this package; reading a checkpoint is training's.
    from hjepa.train.state import load_agent

    agent, config, meta = load_agent(path)
    agent.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    folder = path if (path / "config.yaml").exists() else path.parent.parent
    return LoadedRun(agent, config, int(meta["frames"]), folder)
