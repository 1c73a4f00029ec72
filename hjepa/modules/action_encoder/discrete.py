"""Level 0's choices: the environment's actions."""

import math
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import ActionEncoder, Loss
from hjepa.types import LevelSpec


class DiscreteActions(ActionEncoder):
    """A learned embedding of every environment action."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "action_encoder"
        kind: Literal["discrete"] = "discrete"

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        """Raises ValueError above level 0, whose choices are not the environment's actions, whatever the stride."""
        super().__init__()
        if spec.index > 0:
            raise ValueError(f"is for level 0 only, which always has it (got level {spec.index}); use codes or bank")
        self.num_actions = spec.num_env_actions
        self.embedding = nn.Embedding(spec.num_env_actions, spec.action_dim)

    def table(self) -> Float[Tensor, "A M"]:
        return self.embedding.weight

    def infer(
        self, lower_states: Float[Tensor, "*B stride_1 Dl"], lower_actions: Float[Tensor, "*B stride Ml"]
    ) -> tuple[Float[Tensor, "*B M"], Float[Tensor, "*B A"]]:
        """`lower_actions` are one-hot; zero rows (no action) give a zero embedding."""
        weights = lower_actions.squeeze(-2)
        return weights @ self.embedding.weight, weights

    def loss(self, weights: Float[Tensor, "R A"], state: Float[Tensor, "R D"]) -> Loss:
        return state.new_zeros(()), {}

    def support(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B A"]:
        """Every action is in support."""
        return state.new_full((*state.shape[:-1], self.num_actions), -math.log(self.num_actions))
