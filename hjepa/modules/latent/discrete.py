"""A discrete latent variable with a learned prior."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Latent
from hjepa.nets import MLP, one_hot, straight_through
from hjepa.types import LevelSpec


class DiscreteLatent(Latent):
    """z is a one-hot code; R(z) = KL(q(z | s, a, s') || p(z | s)) in nats (L22 section 4.5, discrete z).

    Codes carry the straight-through gradient of Gumbel-perturbed probabilities in training (Jang et al.
    2017), and are the likeliest ones otherwise. With K codes the energy has at most K wells.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "latent"
        kind: Literal["discrete"] = "discrete"
        codes: int = Field(8, ge=2, le=4096)
        """Number of codes K."""
        hidden: int = Field(128, gt=0)
        """Width of the inference network's hidden layer."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.dim = config.codes
        self.posterior = MLP(2 * spec.dim + spec.action_dim, config.hidden, config.codes, 1)
        self.prior = MLP(spec.dim, config.hidden, config.codes, 1)

    def infer(
        self, state: Float[Tensor, "*B D"], action: Float[Tensor, "*B M"], target: Float[Tensor, "*B D"]
    ) -> tuple[Float[Tensor, "*B Z"], Float[Tensor, "*B"]]:
        log_q = self.posterior(torch.cat((state, action, target), -1)).log_softmax(-1)
        log_p = self.prior(state).log_softmax(-1)
        information = (log_q.exp() * (log_q - log_p)).sum(-1)
        if self.training:
            return F.gumbel_softmax(log_q, hard=True), information
        return straight_through(log_q.exp()), information

    def sample(self, state: Float[Tensor, "*B D"], samples: int) -> Float[Tensor, "*B S Z"]:
        probabilities = self.prior(state).softmax(-1)
        index = torch.multinomial(probabilities.flatten(0, -2), samples, replacement=True)
        return one_hot(index, self.dim).view(*state.shape[:-1], samples, self.dim)

    def candidates(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B S Z"]:
        """Every code."""
        codes = torch.eye(self.dim, device=state.device, dtype=state.dtype)
        return codes.expand(*state.shape[:-1], -1, -1)
