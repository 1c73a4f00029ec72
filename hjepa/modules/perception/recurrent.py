"""Perception that remembers in a GRU: what it keeps of the past is learned through time."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Perception
from hjepa.modules.cells import CellEncoder, pack
from hjepa.types import AgentSpec, Observation


class Recurrent(Perception):
    """State from views and own actions through a GRU (Cho et al. 2014); `carry` is the hidden state, [B, D].

    The state is the layer-normed hidden state. Gradients reach back to the start of the window.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "perception"
        kind: Literal["recurrent"] = "recurrent"
        cell_width: int = Field(8, gt=0)
        """Width of a cell's embedding."""
        hidden: int = Field(128, gt=0)
        """Width of the encoder's hidden layers and of what it hands to the GRU."""
        layers: int = Field(1, ge=0)
        """Hidden layers after the first."""
        action_width: int = Field(16, gt=0)
        """Width of the previous action's embedding."""

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        columns, rows = spec.env.view
        self.dim = spec.levels[0].dim
        self.encoder = CellEncoder(
            columns * rows, config.cell_width, config.hidden, config.layers, config.hidden, spec.token_dim
        )
        # Place 0 stands for "no action yet".
        self.action = nn.Embedding(spec.env.num_actions + 1, config.action_width)
        self.cell = nn.GRUCell(config.hidden + config.action_width, self.dim)
        self.norm = nn.LayerNorm(self.dim)

    def initial(self, batch: int, device: torch.device) -> Float[Tensor, "B D"]:
        return torch.zeros(batch, self.dim, device=device)

    def forward(
        self,
        observation: Observation,
        previous_action: Int[Tensor, " B"],
        carry: Tensor,
        tokens: Float[Tensor, "B K C"],
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        carry = self.cell(self._inputs(observation, previous_action, tokens), carry)
        return self.norm(carry), carry

    def observe(
        self,
        observation: Observation,
        previous_action: Int[Tensor, "B T"],
        is_first: Bool[Tensor, "B T"],
        carries: Tensor,
        tokens: Float[Tensor, "B T K C"],
    ) -> Float[Tensor, "B T D"]:
        inputs = self._inputs(observation, previous_action, tokens)
        states, carry = [], carries[:, 0]
        for t in range(is_first.shape[1]):
            carry = self.cell(inputs[:, t], carry.masked_fill(is_first[:, t, None], 0.0))
            states.append(carry)
        return self.norm(torch.stack(states, 1))

    def _inputs(
        self, observation: Observation, previous_action: Int[Tensor, "*B"], tokens: Float[Tensor, "*B K C"]
    ) -> Float[Tensor, "*B I"]:
        view = self.encoder(pack(observation.image).flatten(-2), tokens)
        return torch.cat([view, self.action(previous_action + 1)], -1)
