"""Lifts a state by an MLP modulated by the task tokens."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Encoder
from hjepa.nets import MLP, FiLM
from hjepa.types import LevelSpec


class MLPEncoder(Encoder):
    """s_l = LayerNorm(FiLM(MLP(s_{l-1}))), without affine parameters: the scale of every state is fixed."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "encoder"
        kind: Literal["mlp"] = "mlp"
        hidden: int = Field(128, gt=0)
        """Width of the hidden layers."""
        layers: int = Field(2, ge=1, le=8)
        """Hidden layers."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.body = MLP(spec.lower_dim, config.hidden, spec.dim, config.layers)
        self.film = FiLM(spec.token_dim, spec.dim)

    def forward(self, lower_state: Float[Tensor, "*B Dl"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B D"]:
        state = self.film(self.body(lower_state), tokens)
        return F.layer_norm(state, state.shape[-1:])
