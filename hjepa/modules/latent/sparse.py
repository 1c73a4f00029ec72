"""A sparse latent variable."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.distributions import Laplace

from hjepa.config import ModuleConfig
from hjepa.interfaces import Latent
from hjepa.nets import MLP
from hjepa.types import LevelSpec


class SparseLatent(Latent):
    """z is a function of (s, a, s'); R(z) = alpha |z|_1 (L22 section 4.5); planning draws from exp(-R)."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "latent"
        kind: Literal["sparse"] = "sparse"
        dim: int = Field(16, gt=0)
        """Width of z."""
        hidden: int = Field(128, gt=0)
        """Width of the inference network's hidden layer."""
        alpha: float = Field(1.0, gt=0)
        """Nats per unit of |z|_1."""
        draws: int = Field(8, ge=0)
        """Draws from the prior, beside its mode, over which min_z is taken."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.dim, self.alpha, self.draws = config.dim, config.alpha, config.draws
        self.posterior = MLP(2 * spec.dim + spec.action_dim, config.hidden, config.dim, 1)

    def infer(
        self, state: Float[Tensor, "*B D"], action: Float[Tensor, "*B M"], target: Float[Tensor, "*B D"]
    ) -> tuple[Float[Tensor, "*B Z"], Float[Tensor, "*B"]]:
        latent = self.posterior(torch.cat((state, action, target), -1))
        return latent, self.alpha * latent.abs().sum(-1)

    def sample(self, state: Float[Tensor, "*B D"], samples: int) -> Float[Tensor, "*B S Z"]:
        zero = state.new_zeros(*state.shape[:-1], samples, self.dim)
        return Laplace(zero, torch.full_like(zero, 1 / self.alpha), validate_args=False).sample()

    def candidates(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B S Z"]:
        """The prior's mode, then draws."""
        mode = state.new_zeros(*state.shape[:-1], 1, self.dim)
        return torch.cat((mode, self.sample(state, self.draws)), -2)
