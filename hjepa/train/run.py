"""One training run: assemble agent, environments, store and Trainer; start afresh or resume exactly."""

import json
import logging
import platform
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

import hjepa
from hjepa.agent import Agent
from hjepa.build import build_agent
from hjepa.config import ConfigError, RunConfig, dump, load_run
from hjepa.data.sampler import draw
from hjepa.data.store import EpisodeStore
from hjepa.envs.make import env_spec
from hjepa.envs.seeds import training_seed
from hjepa.envs.vector import VectorEnv
from hjepa.train.collector import Collector, Exploration
from hjepa.train.learning import Shaping
from hjepa.train.module import AgentModule, LearningRate
from hjepa.train.report import ReportCallback
from hjepa.train.saving import CheckpointCallback
from hjepa.train.seeding import seed_everything_at
from hjepa.train.state import RunState, restore_run
from hjepa.types import Trajectory


@dataclass
class Experience:
    """Gives update n its batch: first collects the frames that are due, then draws as a function of (seed, n)."""

    collector: Collector
    store: EpisodeStore
    seed: int
    prefill: int
    frames_per_update: int
    batch_size: int
    window: int
    terminal_share: float
    mirror: bool

    def __call__(self, update: int) -> Trajectory:
        self.collector.collect_until(self.prefill + (update + 1) * self.frames_per_update)
        batch = draw(self.store, self.seed, update, self.batch_size, self.window, self.terminal_share)
        if not self.mirror:
            return batch
        return batch[::2].join(self.collector.agent.perception.mirror(batch[1::2]))


def train(config: RunConfig, run_dir: Path) -> int:
    """Train from the beginning into a new run folder. Raises ConfigError where the folder exists."""
    if run_dir.exists():
        raise ConfigError(f"run.dir: {run_dir} exists; resume it with `hjepa train --resume {run_dir}` or name another")
    agent = seeded_agent(config)
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(dump(config))
    (run_dir / "provenance.json").write_text(json.dumps(provenance(config), indent=2) + "\n")
    return fit(config, run_dir, agent, resume=False)


def resume(run_dir: Path, trust_plugins: bool = False) -> int:
    """Go on from the last good checkpoint; the result equals that of a run that was never stopped."""
    config = load_run(run_dir, trust_plugins)
    return fit(config, run_dir, seeded_agent(config), resume=True)


def seeded_agent(config: RunConfig) -> Agent:
    """The agent with the initial weights that belong to the run's seed."""
    seed_everything_at(config.train.seed, "weights")
    return build_agent(config, env_spec(config.env.id))


def fit(config: RunConfig, run_dir: Path, agent: Agent, resume: bool) -> int:
    """Assemble the run and train it to its last frame."""
    settings = config.train
    if settings.threads > 0:
        torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # With it every fresh tensor would be filled with nan first, 1,700 an update, though none is read unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    device = torch.device("cuda" if wants_gpu(settings.accelerator) else "cpu")
    agent.to(device)
    run = assemble(config, run_dir, agent, device)
    updates = max((settings.frames - settings.prefill) // settings.frames_per_update, 1)
    module = lightning_module(config, run, updates)
    start = restore_run(run, module, run_dir) if resume else 0
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    report = ReportCallback(config, run, run_dir, updates, start)
    trainer = Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[report, CheckpointCallback(config, run, run_dir, updates, start)],
        default_root_dir=run_dir,
    )
    agent.train()
    if settings.compile:
        agent.perception.compile()
    with warnings.catch_warnings():
        # The loader yields numbers, not data: workers would have nothing to do.
        warnings.filterwarnings("ignore", ".*num_workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        trainer.fit(module, DataLoader(UpdateNumbers(start, updates), batch_size=None))
    return report.finish()


class UpdateNumbers(torch.utils.data.Dataset[Tensor]):
    """The numbers of the updates still to do."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __len__(self) -> int:
        return max(self.end - self.start, 0)

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(self.start + index)


def assemble(config: RunConfig, run_dir: Path, agent: Agent, device: torch.device) -> RunState:
    """Environments, store and collector of a run."""
    settings = config.train
    env = VectorEnv(
        config.env.id,
        config.env.num_envs,
        lambda env_index, episode: training_seed(settings.seed, env_index, episode),
    )
    carry = agent.perception.initial(1, torch.device("cpu"))
    store = EpisodeStore(
        settings.capacity, config.env.num_envs, agent.spec.env, len(agent.spec.drives), carry, run_dir / "data"
    )
    exploration = Exploration(settings.epsilon, settings.prefill, settings.epsilon_frames)
    collector = Collector(agent, env, store, exploration, settings.collect_mode, settings.seed, device)
    return RunState(agent, env, store, collector)


def lightning_module(config: RunConfig, run: RunState, updates: int) -> AgentModule:
    """The module around the agent, with the run's experience."""
    settings = config.train
    experience = Experience(
        run.collector,
        run.store,
        settings.seed,
        settings.prefill,
        settings.frames_per_update,
        settings.batch_size,
        settings.window,
        settings.terminal_share,
        settings.mirror,
    )
    return AgentModule(
        run.agent,
        experience,
        Shaping(settings.critic_shapes_encoder, settings.upper_shapes_lower),
        LearningRate(settings.learning_rate, settings.learning_rate_end, updates),
        settings.weight_decay,
        settings.gradient_clip,
        settings.target_rate,
        settings.seed,
    )


def wants_gpu(accelerator: str) -> bool:
    """Whether Lightning will put the agent on a GPU."""
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def provenance(config: RunConfig) -> dict[str, str | int | list[str]]:
    """What made this run: code version, library versions, hardware, command line, seed."""
    return {
        "hjepa": hjepa.__version__,
        "commit": commit(),
        "changed_files": git("status", "--porcelain").splitlines(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "command": sys.argv,
        "seed": config.train.seed,
    }


def commit() -> str:
    """Commit of the package's own checkout; "unknown" where it has none (an installed package, an unpacked archive)."""
    return git("rev-parse", "HEAD") or "unknown"


def git(*arguments: str) -> str:
    """Output of git about the package's own checkout; empty where there is none."""
    # A folder that another repository only happens to lie around is not that repository's.
    return _run_git(*arguments) if _run_git("ls-files", "__init__.py") else ""


def _run_git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(hjepa.__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
