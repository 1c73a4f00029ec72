"""Lightning callbacks of a run: checkpoints, and reports (TensorBoard, metrics.csv, progress, held-out evaluation)."""

import signal
from pathlib import Path
from time import perf_counter
from types import FrameType

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from hjepa.config import RunConfig
from hjepa.envs.seeds import held_out_seed
from hjepa.eval.rollout import run_episodes
from hjepa.log.writer import BoardWriter
from hjepa.data import checkpoint
from hjepa.train.module import AgentModule
from hjepa.train.progress import Progress
from hjepa.train.seeding import seed_everything_at
from hjepa.train.state import RunState, save_run

EXIT_SIGTERM = 143


class CheckpointCallback(Callback):
    """Saves between updates: every so many frames, at the end, and on SIGTERM (then leaves with status 143)."""

    def __init__(self, config: RunConfig, run: RunState, run_dir: Path, updates: int, start: int) -> None:
        self.run, self.run_dir, self.updates, self.update = run, run_dir, updates, start
        self.every = max(config.train.checkpoint_every // config.train.frames_per_update, 1)
        self.keep = config.train.keep_checkpoints
        self.stop_asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, AgentModule) and pl_module.optimizer_tensors is not None:
            checkpoint.restore_optimizer(trainer.optimizers[0], pl_module.optimizer_tensors)
            pl_module.optimizer_tensors = None
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Tensor, batch_idx: int
    ) -> None:
        self.update = int(batch) + 1
        if self.stop_asked or self.update % self.every == 0 or self.update == self.updates:
            save_run(self.run, trainer.optimizers[0], self.run_dir, self.update, self.keep)
        if self.stop_asked:
            raise SystemExit(EXIT_SIGTERM)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.stop_asked = True


class ReportCallback(Callback):
    """Writes what a run shows: scalars every `log.every` updates, held-out success, and a live line in the terminal."""

    def __init__(self, config: RunConfig, run: RunState, run_dir: Path, updates: int, start: int) -> None:
        self.config, self.run, self.run_dir, self.updates = config, run, run_dir, updates
        self.writer = BoardWriter(run_dir, purge_step=run.collector.frames if start > 0 else None)
        if start == 0:
            self.writer.custom_scalars(len(config.levels), run.agent.spec.drives)
        self.progress = Progress(config.train.frames, run.collector.frames)
        self.clock = PhaseClock(run.collector.frames)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Tensor, batch_idx: int
    ) -> None:
        update = int(batch) + 1
        frames = self.run.collector.frames
        if update % self.config.log.every == 0 and isinstance(pl_module, AgentModule):
            self._report(pl_module, frames)
        every = self.config.eval.every
        if every > 0 and update % max(every // self.config.train.frames_per_update, 1) == 0:
            self._held_out(frames)
        self.progress.update(frames)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.progress.stop()
        self.writer.close()

    def finish(self) -> int:
        """Close the run's reports and say where they are."""
        self.progress.stop()
        self.writer.close()
        print(f"run folder: {self.run_dir}")
        print(f"TensorBoard: tensorboard --logdir {self.run_dir}")
        return 0

    def _report(self, module: AgentModule, frames: int) -> None:
        scalars = {name: float(value) for name, value in module.info.items()}
        scalars |= self.run.collector.report()
        scalars |= self.clock.read(module.seconds, frames)
        self.writer.scalars(scalars, frames)
        self.progress.show(scalars)

    def _held_out(self, frames: int) -> None:
        settings, agent = self.config.eval, self.run.agent
        agent.eval()
        seeds = [held_out_seed(settings.seed, number) for number in range(settings.episodes)]
        seed_everything_at(settings.seed, "held_out")
        for mode in settings.modes:
            episodes = run_episodes(agent, self.config.env.id, seeds, mode)
            self.writer.scalars(
                {
                    f"held_out/success_mode_{mode}": float(episodes.success.mean()),
                    f"held_out/return_mode_{mode}": float(episodes.returns.mean()),
                    f"held_out/length_mode_{mode}": float(episodes.lengths.mean()),
                },
                frames,
            )
        agent.train()


class PhaseClock:
    """Share of wall time by phase, and frames per second, since the last reading."""

    def __init__(self, frames: int) -> None:
        self.read_at, self.frames_at = perf_counter(), frames

    def read(self, seconds: dict[str, float], frames: int) -> dict[str, float]:
        """`seconds` spent in each phase are set back to 0."""
        now = perf_counter()
        elapsed = max(now - self.read_at, 1e-9)
        result = {f"time_share/{phase}": spent / elapsed for phase, spent in seconds.items()}
        result["speed/frames_per_second"] = (frames - self.frames_at) / elapsed
        seconds.update(dict.fromkeys(seconds, 0.0))
        self.read_at, self.frames_at = now, frames
        return result
