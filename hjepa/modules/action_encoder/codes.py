"""Macro-action codes: a small discrete vocabulary of what a segment of the level below did."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import ActionEncoder, Loss
from hjepa.nets import MLP, straight_through
from hjepa.types import LevelSpec


class MacroCodes(ActionEncoder):
    """K codes, inferred from a segment's actions and (`changes`) change of state by a straight-through Gumbel softmax.

    The support is a learned prior p(code | s), so that search stays among codes that occur from a state (VQ
    macro-actions as in Hi-LeWM, arXiv 2607.12547; Gumbel softmax, Jang et al. 2017).
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "action_encoder"
        kind: Literal["codes"] = "codes"
        codes: int = Field(16, ge=2, le=4096)
        """Number of codes K."""
        hidden: int = Field(128, gt=0)
        """Width of the inference network's and the prior's hidden layers."""
        temperature: float = Field(1.0, gt=0)
        """Temperature of the Gumbel softmax."""
        changes: bool = True
        """Whether a code is inferred from the change of state, too, or from the actions alone: then it says what was
        done, not what came of it, which where much is out of sight is luck that no level below can bring about."""
        usage: float = Field(0.1, ge=0)
        """Weight of the usage term, log K minus the entropy of the batch's codes: keeps codes alive."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.num_actions, self.temperature, self.usage = config.codes, config.temperature, config.usage
        self.changes = config.changes
        inputs = spec.stride * spec.lower_action_dim + spec.lower_dim * config.changes
        self.posterior = MLP(inputs, config.hidden, config.codes)
        self.prior = MLP(spec.dim, config.hidden, config.codes, 1)
        self.embedding = nn.Embedding(config.codes, spec.action_dim)

    def table(self) -> Float[Tensor, "A M"]:
        return self.embedding.weight

    def infer(
        self, lower_states: Float[Tensor, "*B stride_1 Dl"], lower_actions: Float[Tensor, "*B stride Ml"]
    ) -> tuple[Float[Tensor, "*B M"], Float[Tensor, "*B A"]]:
        """A code drawn in training, the likeliest otherwise."""
        seen = [lower_actions.flatten(-2)]
        if self.changes:
            seen.append(lower_states[..., -1, :] - lower_states[..., 0, :])
        logits = self.posterior(torch.cat(seen, -1))
        if self.training:
            weights = F.gumbel_softmax(logits, self.temperature, hard=True)
        else:
            weights = straight_through(logits.softmax(-1))
        return weights @ self.embedding.weight, weights

    def loss(self, weights: Float[Tensor, "R A"], state: Float[Tensor, "R D"]) -> Loss:
        """Cross-entropy of the prior on detached states, and usage. Rows with zero weights do not count."""
        count = weights.detach().sum().clamp_min(1)
        surprise = -(weights.detach() * self.support(state.detach())).sum() / count
        used = weights.sum(0) / count
        # torch.special.entr has an infinite gradient at 0, where an unused code sits.
        entropy = -(used * (used + 1e-6).log()).sum()
        info = {"code_perplexity": entropy.exp().detach(), "code_prior": surprise.detach()}
        return surprise + self.usage * (math.log(self.num_actions) - entropy), info

    def support(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B A"]:
        return self.prior(state).log_softmax(-1)
