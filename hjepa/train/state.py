"""Everything a run must keep to go on bit for bit, and how it is saved and restored."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hjepa.agent import Agent
from hjepa.config import ConfigError
from hjepa.data import checkpoint
from hjepa.data.store import EpisodeStore
from hjepa.envs.vector import VectorEnv
from hjepa.train.collector import Collector
from hjepa.train.module import AgentModule


@dataclass
class RunState:
    """The parts of a run that hold state, besides the optimiser."""

    agent: Agent
    env: VectorEnv
    store: EpisodeStore
    collector: Collector


def save_run(run: RunState, optimizer: torch.optim.Optimizer, run_dir: Path, update: int, keep: int) -> Path:
    """Write a checkpoint of the state before update number `update`."""
    tensors = {
        "agent": on_cpu(run.agent.state_dict()),
        "optimizer": on_cpu(checkpoint.optimizer_tensors(optimizer)),
        "collector": on_cpu(run.collector.tensors()),
        "environments": run.env.state(),
        "subgoals": on_cpu(run.collector.subgoals.tensors()),
    }
    meta = {
        "update": update,
        "frames": run.collector.frames,
        "steps": run.collector.steps,
        "returns": run.collector.statistics.returns,
        "lengths": run.collector.statistics.lengths,
        "store": run.store.flush(),
    }
    folder = run_dir / "checkpoints"
    saved = checkpoint.save(folder, update, tensors, meta, keep)
    run.store.prune(kept["store"] for kept in checkpoint.kept_meta(folder))
    return saved


def restore_run(run: RunState, module: AgentModule, run_dir: Path) -> int:
    """Restore the newest good checkpoint into `run`; the optimiser's part waits in the module. Returns the update to
    do next.

    A run killed before its first checkpoint starts over.
    """
    folder = run_dir / "checkpoints"
    if not checkpoint.checkpoints(folder):
        return 0
    tensors, meta, skipped = checkpoint.load_latest(folder)
    for line in skipped:
        print(line)
    if "optimizer" not in tensors:
        raise ConfigError(f"{run_dir}: holds weights to play with (`hjepa export`), no run to go on with")
    run.agent.load_state_dict(tensors["agent"])
    run.store.restore(meta["store"])
    run.env.restore(tensors["environments"])
    run.collector.restore(tensors["collector"], meta["frames"], meta["steps"])
    run.collector.statistics.returns = list(meta["returns"])
    run.collector.statistics.lengths = list(meta["lengths"])
    run.collector.subgoals.restore(tensors["subgoals"])
    module.optimizer_tensors = tensors["optimizer"]
    return int(meta["update"])


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies in main memory."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
