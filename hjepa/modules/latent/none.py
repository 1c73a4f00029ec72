"""No latent variable: the predictor is deterministic."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Latent
from hjepa.types import LevelSpec


class NoLatent(Latent):
    """z of width 0 and no information."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "latent"
        kind: Literal["none"] = "none"

    dim = 0

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()

    def infer(
        self, state: Float[Tensor, "*B D"], action: Float[Tensor, "*B M"], target: Float[Tensor, "*B D"]
    ) -> tuple[Float[Tensor, "*B Z"], Float[Tensor, "*B"]]:
        return state[..., :0], state.new_zeros(state.shape[:-1])

    def sample(self, state: Float[Tensor, "*B D"], samples: int) -> Float[Tensor, "*B S Z"]:
        return state.new_zeros(*state.shape[:-1], samples, 0)

    def candidates(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B S Z"]:
        return self.sample(state, 1)
