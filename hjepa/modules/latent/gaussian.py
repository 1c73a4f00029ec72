"""A Gaussian latent variable."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Latent
from hjepa.nets import MLP
from hjepa.types import LevelSpec


class GaussianLatent(Latent):
    """z ~ N(mean, std^2) of (s, a, s'), reparametrised; R(z) = KL to N(0, I) in nats (L22 section 4.5)."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "latent"
        kind: Literal["gaussian"] = "gaussian"
        dim: int = Field(8, gt=0)
        """Width of z."""
        hidden: int = Field(128, gt=0)
        """Width of the inference network's hidden layer."""
        draws: int = Field(8, ge=0)
        """Draws from the prior, beside its mode, over which min_z is taken."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.dim, self.draws = config.dim, config.draws
        self.posterior = MLP(2 * spec.dim + spec.action_dim, config.hidden, 2 * config.dim, 1)

    def infer(
        self, state: Float[Tensor, "*B D"], action: Float[Tensor, "*B M"], target: Float[Tensor, "*B D"]
    ) -> tuple[Float[Tensor, "*B Z"], Float[Tensor, "*B"]]:
        """In evaluation z is the mean."""
        mean, log_std = self.posterior(torch.cat((state, action, target), -1)).chunk(2, -1)
        log_std = log_std.clamp(-7, 3)
        information = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(-1)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return mean + log_std.exp() * noise, information

    def sample(self, state: Float[Tensor, "*B D"], samples: int) -> Float[Tensor, "*B S Z"]:
        return torch.randn(*state.shape[:-1], samples, self.dim, device=state.device, dtype=state.dtype)

    def candidates(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B S Z"]:
        """The prior's mode, then draws."""
        mode = state.new_zeros(*state.shape[:-1], 1, self.dim)
        return torch.cat((mode, self.sample(state, self.draws)), -2)
