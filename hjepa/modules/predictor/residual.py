"""A residual MLP predictor."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Predictor
from hjepa.nets import MLP, FiLM
from hjepa.types import LevelSpec


class ResidualPredictor(Predictor):
    """s' = LayerNorm(s + MLP([s, a, z])), the first hidden layer modulated by the task tokens.

    The first layer takes its width from the first call, since the spec does not tell how wide z is; the world
    model makes that call when it is built.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "predictor"
        kind: Literal["residual"] = "residual"
        hidden: int = Field(128, gt=0)
        """Width of the hidden layers."""
        layers: int = Field(1, ge=1, le=8)
        """Hidden layers."""
        normalise: bool = True
        """Layer-normalise the output, to match states that are layer-normed."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.normalise = config.normalise
        self.embed = nn.LazyLinear(config.hidden)
        self.norm = nn.LayerNorm(config.hidden)
        self.film = FiLM(spec.token_dim, config.hidden)
        self.body = MLP(config.hidden, config.hidden, spec.dim, config.layers - 1)

    def forward(
        self,
        state: Float[Tensor, "*B D"],
        action: Float[Tensor, "*B M"],
        latent: Float[Tensor, "*B Z"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B D"]:
        hidden = self.norm(self.embed(torch.cat((state, action, latent), -1)))
        state = state + self.body(F.silu(self.film(hidden, tokens)))
        return F.layer_norm(state, state.shape[-1:]) if self.normalise else state
