"""Level 0's encoder: perception's state is the level's state."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Encoder
from hjepa.types import LevelSpec


class IdentityEncoder(Encoder):
    """s_l = s_{l-1}. Above level 0 this is the shared latent of HWM (arXiv 2604.03208)."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "encoder"
        kind: Literal["identity"] = "identity"

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        """Raises ValueError where the level and the one below differ in width."""
        super().__init__()
        if spec.lower_dim != spec.dim:
            raise ValueError(
                f"levels.{spec.index}.dim: the identity encoder needs the width of the level below, "
                f"{spec.lower_dim} (got {spec.dim})"
            )

    def forward(self, lower_state: Float[Tensor, "*B Dl"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B D"]:
        return lower_state
