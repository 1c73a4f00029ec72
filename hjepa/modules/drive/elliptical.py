"""The drive to reach states unlike those of this episode: novelty that generalises over states."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.types import AgentSpec, Signals

SEED = 0x1E3B


class EllipticalDrive(Drive):
    """-b / (1 + b), b = phi' (ridge I + sum phi_i phi_i')^-1 phi over the memory (E3B, Henaff et al. 2022).

    phi is a fixed random projection of the level-0 state. b / (1 + b), the leverage of the state among itself
    and those of the episode, nears 1 for a state unlike any other and 1 / (n + 1) for one seen n times.
    """

    class Config(ModuleConfig):
        """Settings of the elliptical drive."""

        slot: ClassVar[str] = "drive"
        kind: Literal["elliptical"] = "elliptical"
        features: int = Field(32, gt=0)
        """Width of phi."""
        ridge: float = Field(0.1, gt=0)
        """How much of an unseen direction counts as seen."""

    projection: Tensor

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        self.ridge = config.ridge
        dim = spec.levels[0].dim
        # A drive never changes: its projection comes from a seed of its own, whatever the run's seed is.
        generator = torch.Generator().manual_seed(SEED)
        projection = torch.randn(dim, config.features, generator=generator)
        self.register_buffer("projection", projection / dim**0.5)

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        perceived = (contents.time >= 0) & ~contents.imagined
        seen = contents.keys.detach() @ self.projection * perceived[..., None]
        present = (signals.state.detach() @ self.projection)[..., None]
        identity = torch.eye(seen.shape[-1], device=seen.device)
        covariance = seen.transpose(1, 2) @ seen + self.ridge * identity
        factor = torch.linalg.cholesky(covariance)
        whitened = torch.linalg.solve_triangular(factor, present, upper=False)
        bonus = whitened.square().sum((1, 2))
        return -bonus / (1 + bonus)
