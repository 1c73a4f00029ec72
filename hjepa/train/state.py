"""Everything a run must keep to go on bit for bit, and how it is saved and restored."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hjepa.agent import Agent
from hjepa.config import ConfigError, RunConfig, load_run
from hjepa.build import build_agent
from hjepa.data.store import EpisodeStore
from hjepa.envs.make import env_spec
from hjepa.envs.vector import VectorEnv
from hjepa.train import checkpoint
from hjepa.train.collector import Collector
from hjepa.train.module import AgentModule


@dataclass
class RunState:
    """The parts of a run that hold state, besides the optimiser."""

    agent: Agent
    env: VectorEnv
    store: EpisodeStore
    collector: Collector


def save_run(
    run: RunState, optimizer: torch.optim.Optimizer, run_dir: Path, update: int, keep: int
) -> Path:
    """Write a checkpoint of the state before update number `update`."""
    tensors = {
        "agent": on_cpu(run.agent.state_dict()),
        "optimizer": on_cpu(checkpoint.optimizer_tensors(optimizer)),
        "collector": on_cpu(run.collector.tensors()),
        "environments": run.env.state(),
    }
    meta = {
        "update": update,
        "frames": run.collector.frames,
        "steps": run.collector.steps,
        "returns": run.collector.statistics.returns,
        "lengths": run.collector.statistics.lengths,
        "store": run.store.flush(),
    }
    return checkpoint.save(run_dir / "checkpoints", update, tensors, meta, keep)


def restore_run(run: RunState, module: AgentModule, run_dir: Path) -> int:
    """Restore the newest good checkpoint into `run`; the optimiser's part waits in the module. Returns the update to do next.

    A run killed before its first checkpoint starts over.
    """
    folder = run_dir / "checkpoints"
    if not folder.exists():
        return 0
    tensors, meta, skipped = checkpoint.load_latest(folder)
    for line in skipped:
        print(line)
    run.agent.load_state_dict(tensors["agent"])
    run.store.restore(meta["store"])
    run.env.restore(tensors["environments"])
    run.collector.restore(tensors["collector"], meta["frames"], meta["steps"])
    run.collector.statistics.returns = list(meta["returns"])
    run.collector.statistics.lengths = list(meta["lengths"])
    module.optimizer_tensors = tensors["optimizer"]
    return int(meta["update"])


def load_agent(path: Path, trust_plugins: bool = False) -> tuple[Agent, RunConfig, dict[str, int]]:
    """The agent of a run folder (its newest good checkpoint) or of one checkpoint folder, in eval mode.

    Only config, tensors and JSON are read, never code. Raises ConfigError where there is nothing usable.
    """
    run_dir = path if (path / "config.yaml").exists() else path.parent.parent
    if not (run_dir / "config.yaml").exists():
        raise ConfigError(f"{path}: not a run folder or a checkpoint of one")
    config = load_run(run_dir, trust_plugins)
    if run_dir == path:
        tensors, meta, skipped = checkpoint.load_latest(run_dir / "checkpoints")
        for line in skipped:
            print(line)
    else:
        tensors, meta = checkpoint.load(path)
    agent = build_agent(config, env_spec(config.env.id))
    try:
        agent.load_state_dict(tensors["agent"])
    except RuntimeError as error:
        raise ConfigError(f"{path}: weights do not fit config.yaml: {str(error).splitlines()[1].strip()}") from error
    return agent.eval(), config, {"frames": int(meta["frames"]), "update": int(meta["update"])}


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies in main memory."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
