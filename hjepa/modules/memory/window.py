"""Short-term memory that keeps the last entries as they are."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import MemoryState
from hjepa.modules.episode_log import EpisodeLog, recall_weights
from hjepa.types import AgentSpec


class Window(EpisodeLog):
    """The last `capacity` entries of the episode; read by attention with the cosine similarity of states.

    The read is L22 eq. 15-17 with Match = sharpness * cosine; differentiable in query and entries.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "memory"
        kind: Literal["window"] = "window"
        capacity: int = Field(256, gt=0)
        """Entries kept; the oldest is dropped."""
        bins: int = Field(65536, gt=0)
        """Bins of the lifetime counts of observations."""
        acceptance: float = Field(0.8, ge=-1, le=1)
        """Cosine similarity at which one entry weighs as much as finding nothing."""
        sharpness: float = Field(20.0, gt=0)
        """How fast an entry's weight falls with its similarity."""

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__(config.capacity, config.bins, spec.levels[0].dim)
        self.acceptance, self.sharpness = config.acceptance, config.sharpness

    def read(self, contents: MemoryState, query: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        # As a matrix product: `F.cosine_similarity` would first write out the whole products.
        products = (F.normalize(query, dim=-1).unsqueeze(1) @ contents.keys.transpose(1, 2)).squeeze(1)
        similarity = products / contents.keys.norm(dim=-1).clamp_min(1e-8)
        weights = recall_weights(similarity, contents.time >= 0, self.acceptance, self.sharpness)
        return (weights.unsqueeze(1) @ contents.values).squeeze(1)
