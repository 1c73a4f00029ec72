"""Continuous macro-actions, searched among those that were seen lately."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import ActionEncoder, Loss
from hjepa.nets import MLP, one_hot
from hjepa.types import LevelSpec


class MacroBank(ActionEncoder):
    """A low-dimensional macro-action in (-1, 1) pooled from a segment, and a first-in first-out bank of them.

    The planner's choices are the bank's entries: macro-actions that data led to, as in H-JEPA's macro queue
    (arXiv 2610.06805) and the bank-anchored search of Hi-LeWM (arXiv 2607.12547). Which of them fit a state
    is told by a conditional Gaussian p(m | s).
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "action_encoder"
        kind: Literal["bank"] = "bank"
        entries: int = Field(256, ge=2, le=65536)
        """Entries of the bank: the planner's choices."""
        refresh: int = Field(16, ge=1)
        """Entries replaced at every inference in training mode."""
        hidden: int = Field(128, gt=0)
        """Width of hidden layers."""
        changes: bool = True
        """Whether the macro-action is read off how the states change too, or off the actions alone: then what was done
        in one place can be tried in any other, as it should be where the environment is deterministic."""

    bank: Tensor
    cursor: Tensor

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.num_actions, self.refresh = config.entries, config.refresh
        self.changes = config.changes
        self.step = MLP(spec.lower_action_dim + spec.lower_dim * config.changes, config.hidden, config.hidden, 1)
        self.pool = MLP(spec.stride * config.hidden, config.hidden, spec.action_dim, 1)
        self.prior = MLP(spec.dim, config.hidden, 2 * spec.action_dim, 1)
        self.register_buffer("bank", 2 * torch.rand(config.entries, spec.action_dim) - 1)
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    def table(self) -> Float[Tensor, "A M"]:
        """The bank, without gradient; a copy, since training overwrites entries in place."""
        return self.bank.clone()

    def infer(
        self, lower_states: Float[Tensor, "*B stride_1 Dl"], lower_actions: Float[Tensor, "*B stride Ml"]
    ) -> tuple[Float[Tensor, "*B M"], Float[Tensor, "*B A"]]:
        """The macro-action, and one-hot weights of the nearest entry. Refills the bank in training mode."""
        change = lower_states[..., 1:, :] - lower_states[..., :-1, :]
        steps = self.step(torch.cat((lower_actions, change), -1) if self.changes else lower_actions)
        action = self.pool(steps.flatten(-2)).tanh()
        if self.training:
            self._refill(action.detach(), lower_actions.detach())
        nearest = torch.cdist(action.detach().flatten(0, -2), self.bank).argmin(-1)
        return action, one_hot(nearest, self.num_actions).view(*action.shape[:-1], -1)

    @torch.no_grad()
    def _refill(self, action: Float[Tensor, "*B M"], lower_actions: Float[Tensor, "*B stride Ml"]) -> None:
        """Replace the oldest entries by inferred macro-actions of segments in which anything was done."""
        acted = lower_actions.abs().sum((-2, -1)).flatten() > 0
        rows = torch.multinomial(acted.float() + 1e-9, self.refresh, replacement=True)
        places = (self.cursor + torch.arange(self.refresh, device=rows.device)) % self.num_actions
        self.bank[places] = action.flatten(0, -2)[rows]
        self.cursor.add_(self.refresh).remainder_(self.num_actions)

    def loss(self, weights: Float[Tensor, "R A"], state: Float[Tensor, "R D"]) -> Loss:
        """Negative log-likelihood of the nearest entries under p(m | s). Zero weights do not count."""
        weights = weights.detach()
        count = weights.sum().clamp_min(1)
        mean, log_std = self._prior(state.detach())
        error = (weights @ self.bank - mean) * (-log_std).exp()
        surprise = ((0.5 * error.square() + log_std).sum(-1) * weights.sum(-1)).sum() / count
        used = weights.sum(0) / count
        return surprise, {
            "code_perplexity": torch.special.entr(used).sum().exp(),
            "code_prior": surprise.detach(),
        }

    def support(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B A"]:
        """Density of every entry, normalised over the bank."""
        mean, log_std = self._prior(state)
        error = (self.bank - mean.unsqueeze(-2)) * (-log_std).exp().unsqueeze(-2)
        return (-0.5 * error.square().sum(-1)).log_softmax(-1)

    def _prior(self, state: Float[Tensor, "*B D"]) -> tuple[Float[Tensor, "*B M"], Float[Tensor, "*B M"]]:
        mean, log_std = self.prior(state).chunk(2, -1)
        return mean.tanh(), log_std.clamp(-4, 1)
