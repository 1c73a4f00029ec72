"""The LightningModule: optimiser, one update, and nothing else; collecting and drawing are asked of others."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from hjepa.agent import Agent
from hjepa.train.learning import NonFiniteError, Shaping, agent_loss
from hjepa.train.seeding import seed_everything_at
from hjepa.types import Info, Trajectory


@dataclass(frozen=True)
class LearningRate:
    """Constant over the first half of the updates, then linear down to a share `end`: the last weights vary less."""

    begin: float
    end: float
    updates: int

    def at(self, update: int) -> float:
        """Step size of an update."""
        progress = max(2 * update / self.updates - 1, 0.0)
        return self.begin * (1 + (self.end - 1) * min(progress, 1.0))


class AgentModule(LightningModule):
    """One update on one batch. `experience(n)` collects what is due before update n, and draws its batch."""

    def __init__(
        self,
        agent: Agent,
        experience: Callable[[int], Trajectory],
        shaping: Shaping,
        learning_rate: LearningRate,
        weight_decay: float,
        gradient_clip: float,
        target_rate: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.agent, self.experience, self.shaping = agent, experience, shaping
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.gradient_clip, self.target_rate, self.seed = gradient_clip, target_rate, seed
        self.info: Info = {}
        self.batch: Trajectory | None = None
        """The last batch, for monitors."""
        self.seconds = {"experience": 0.0, "loss": 0.0, "backward": 0.0, "log": 0.0}
        """Seconds spent by phase; the reader sets them back."""
        self.optimizer_tensors: dict[str, Tensor] | None = None
        """The optimiser's saved state, until there is an optimiser to load it into."""
        self._mark = 0.0
        self._update = 0

    def training_step(self, number: Tensor) -> Tensor:
        """Loss of update `number` (an index, since batches are a function of it)."""
        update = self._update = int(number)
        self._mark = perf_counter()
        batch = self.experience(update).to(self.device)
        self.batch = batch
        self._clock("experience")
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate.at(update)
        seed_everything_at(self.seed, "update", update)
        loss, self.info = agent_loss(self.agent, batch, self.shaping)
        self._clock("loss")
        self.info["loss/total"] = loss.detach()
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient; stop where it is not finite, naming the terms and parameters at fault."""
        parameters = [parameter for parameter in self.agent.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])  # type: ignore[misc]
        self.info["loss/gradient_norm"] = norm
        if not bool(torch.isfinite(norm)):
            raise NonFiniteError(self._culprits())
        # Only now: clipping by a norm that is not finite would spoil every gradient, and the culprits' names.
        torch.nn.utils.clip_grads_with_norm_(parameters, self.gradient_clip, norm)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, then move the targets: callbacks that run after the batch see both done."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.agent.update_targets(self.target_rate)
        self._clock("backward")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over everything that learns; the intrinsic cost and the moving averages have nothing to learn."""
        parameters = [parameter for parameter in self.agent.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(
            parameters, lr=self.learning_rate.begin, weight_decay=self.weight_decay, eps=1e-5, fused=True
        )

    def _clock(self, phase: str) -> None:
        now = perf_counter()
        self.seconds[phase] += now - self._mark
        self._mark = now

    def _culprits(self) -> str:
        terms = [name for name, value in self.info.items() if not bool(torch.isfinite(value).all())]
        gradients = [
            name
            for name, parameter in self.agent.named_parameters()
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
        ]
        return (
            f"not finite in update {self._update}: terms {', '.join(terms[:5]) or 'none'}; "
            f"gradients {', '.join(gradients[:5]) or 'none'}; the weights were not changed"
        )
