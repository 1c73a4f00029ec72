"""A configurator that reads the mission: tokens for the other modules, and weights for the drives."""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Configurator
from hjepa.modules.drive_weights import drive_floors, drive_weights
from hjepa.types import AgentSpec, Task
from hjepa.vocabulary import MISSION_VOCABULARY, MISSION_WORDS


class Mission(Configurator):
    """Task tokens from the words of the mission, and drive weights modulated by them (L22 section 3 and 6).

    A drive's weight is its base weight times a factor in (0, 2) that is 1 at the start, raised to its floor:
    energies are weighed linearly, and no guardrail falls below its floor. Tokens are trained end to end where
    they modulate. ValueError for an unknown drive.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "configurator"
        kind: Literal["mission"] = "mission"
        token_dim: int = Field(32, gt=0)
        """Width of a task token."""
        tokens: int = Field(4, gt=0)
        """Number of task tokens."""
        width: int = Field(32, gt=0)
        """Width of the word embeddings."""
        intrinsic_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
        """Base weight u of each drive by name, 1 where missing."""
        final_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
        """Weight of a drive once every training episode succeeds, approached as ever more do; where missing, as above.
        """
        critic_weight: float = Field(1.0, ge=0)
        """Weight v of every level's critic."""
        floors: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
        """Lowest weight of a drive by name; where missing, 1 for guardrails and 0 for others."""

    weights: Tensor
    final_weights: Tensor
    floors: Tensor

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        weights = drive_weights(config.intrinsic_weights, spec)
        final = drive_weights(config.final_weights, spec, weights)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("final_weights", final, persistent=False)
        self.register_buffer("floors", drive_floors(config.floors, spec), persistent=False)
        self.critic_weight = config.critic_weight
        self.num_levels = len(spec.levels)
        self.words = nn.Embedding(MISSION_VOCABULARY, config.width)
        self.positions = nn.Parameter(torch.randn(MISSION_WORDS, config.width) * 0.1)
        # A word and its neighbours together: "red ball" and "ball ... red" differ.
        self.phrases = nn.Linear(3 * config.width, config.width)
        self.queries = nn.Linear(config.width, config.tokens)
        self.project = nn.Sequential(nn.Linear(config.width, config.token_dim), nn.LayerNorm(config.token_dim))
        self.modulation = nn.Linear(config.token_dim, len(spec.drives))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, mission: Int[Tensor, "B Q"], top_state: Float[Tensor, "B D"]) -> Task:
        # A batch holds the same few missions again and again: each is read once.
        distinct, place = mission.unique(dim=0, return_inverse=True)
        tokens = self._tokens(distinct).index_select(0, place)
        weights = self.weights.lerp(self.final_weights, self.competence)
        factor = 2 * self.modulation(tokens.mean(1)).sigmoid()
        return Task(
            tokens=tokens,
            intrinsic_weights=(weights * factor).maximum(self.floors),
            critic_weights=top_state.new_full((len(mission), self.num_levels), self.critic_weight),
            goal=torch.zeros_like(top_state),
            has_goal=torch.zeros(len(mission), dtype=torch.bool, device=top_state.device),
        )

    def _tokens(self, mission: Int[Tensor, "B Q"]) -> Float[Tensor, "B K C"]:
        """Each token is an attention-weighted mean over the words that are there."""
        present = mission != 0
        embedded = (self.words(mission) + self.positions[: mission.shape[1]]) * present.unsqueeze(-1)
        padded = F.pad(embedded, (0, 0, 1, 1))
        phrases = F.silu(self.phrases(torch.cat([padded[:, :-2], embedded, padded[:, 2:]], -1)))
        # -1e9 and not -inf: an empty mission then pools over padding instead of giving nan.
        scores = self.queries(phrases).masked_fill(~present.unsqueeze(-1), -1e9)
        return self.project(scores.softmax(1).transpose(1, 2) @ phrases)
