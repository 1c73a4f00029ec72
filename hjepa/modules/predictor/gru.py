"""A gated recurrent predictor, as in eb_jepa (arXiv 2602.03604)."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Predictor
from hjepa.nets import FiLM
from hjepa.types import LevelSpec


class GRUPredictor(Predictor):
    """s' = LayerNorm(GRU([a, z], s)): the state is the hidden state, action and z embedded are the input.

    The embedding takes its width from the first call, since the spec does not tell how wide z is; the world
    model makes that call when it is built.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "predictor"
        kind: Literal["gru"] = "gru"
        hidden: int = Field(64, gt=0)
        """Width of the embedded action and z."""
        normalise: bool = True
        """Layer-normalise the output, to match states that are layer-normed."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.normalise = config.normalise
        self.embed = nn.LazyLinear(config.hidden)
        self.film = FiLM(spec.token_dim, config.hidden)
        self.cell = nn.GRUCell(config.hidden, spec.dim)

    def forward(
        self,
        state: Float[Tensor, "*B D"],
        action: Float[Tensor, "*B M"],
        latent: Float[Tensor, "*B Z"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B D"]:
        inputs = F.silu(self.film(self.embed(torch.cat((action, latent), -1)), tokens))
        after = self.cell(inputs.flatten(0, -2), state.flatten(0, -2)).view(state.shape)
        return F.layer_norm(after, after.shape[-1:]) if self.normalise else after
