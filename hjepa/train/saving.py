"""The Lightning callback that saves checkpoints."""

import signal
from pathlib import Path
from types import FrameType

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from hjepa.config import RunConfig
from hjepa.data import checkpoint
from hjepa.train.module import AgentModule
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
