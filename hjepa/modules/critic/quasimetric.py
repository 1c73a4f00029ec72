"""Quasimetric critic: the fewest steps from a state to a goal, pulled tight along what was done."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Critic, Loss
from hjepa.losses import masked_mean
from hjepa.nets import MLP, FiLM, at_records
from hjepa.types import CriticBatch, LevelSpec

SOFTNESS = 10.0
"""Steps over which the push apart fades out beyond `far`."""


class QuasimetricCritic(Critic):
    """d(s, g), the fewest steps of the level from s to g, learned without reward from any behaviour.

    d is a quasimetric whatever the weights (0 from a state to itself, and never more than by way of a third), in the
    form of Liu et al. 2023 (MRN, arXiv 2211.11092): a Euclidean distance of embeddings plus a one-sided largest
    difference, here the mean of several. A step that was taken may cost at most 1, and a way that was gone at most its
    steps; subject to that, states of an episode are pushed as far apart as they will go (Wang et al. 2023, QRL, arXiv
    2304.01203). What is left is the length of the shortest way, however roundabout the data went.
    """

    class Config(ModuleConfig):
        """Settings of the quasimetric critic."""

        slot: ClassVar[str] = "critic"
        kind: Literal["quasimetric"] = "quasimetric"
        width: int = Field(256, gt=0)
        """Width of the hidden layers."""
        layers: int = Field(2, ge=1, le=8)
        """Hidden layers."""
        embedding: int = Field(32, gt=0)
        """Width of the embeddings of the Euclidean part."""
        groups: int = Field(8, gt=0)
        """One-sided differences that are averaged."""
        components: int = Field(16, gt=0)
        """Components that each of them is the largest of."""
        longest: int = Field(16, ge=1)
        """Most steps of the level between two states of an episode whose way bounds their distance."""
        tightness: float = Field(20.0, gt=0)
        """Weight of the squared excess over these bounds, against the push apart."""
        far: float = Field(50.0, gt=0)
        """Steps beyond which states are pushed apart no more."""
        expectile: float = Field(0.25, gt=0, lt=1)
        """Of what `fit` is told: below a half it leans to the shorter of the ways between like states."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.longest, self.tightness, self.far = config.longest, config.tightness, config.far
        self.span = spec.span
        self.embedding, self.components = config.embedding, config.components
        self.expectile = config.expectile
        self.film = FiLM(spec.token_dim, spec.dim)
        self.body = MLP(spec.dim, config.width, config.embedding + config.groups * config.components, config.layers)

    def forward(
        self,
        state: Float[Tensor, "*B D"],
        goal: Float[Tensor, "*B D"],
        has_goal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B"]:
        """In steps of the level; 0 where there is no goal."""
        if not bool(has_goal.any()):
            return state.new_zeros(has_goal.shape)
        # A search compares many states with the one goal: it is embedded once.
        own_tokens = tokens
        for dim in range(goal.dim() - 1):
            if goal.stride(dim) == 0 and (tokens.numel() == 0 or tokens.stride(dim) == 0):
                goal, own_tokens = goal.narrow(dim, 0, 1), own_tokens.narrow(dim, 0, 1)
        distance = self._distance(self._embed(state, tokens), self._embed(goal, own_tokens))
        return torch.where(has_goal, distance, 0.0)

    def _embed(self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B E"]:
        return self.body(self.film(state, tokens))

    def _distance(self, state: Float[Tensor, "*#B E"], goal: Float[Tensor, "*#B E"]) -> Float[Tensor, "*B"]:
        apart = state - goal
        both_ways = (apart[..., : self.embedding].square().sum(-1) + 1e-6).sqrt() - 1e-3
        one_way = apart[..., self.embedding :].unflatten(-1, (-1, self.components)).relu().amax(-1).mean(-1)
        return both_ways + one_way

    # -------------------------------------------------------------------------------------------- learning
    def loss(self, batch: CriticBatch, target: Critic) -> Loss:
        embedded, episode = self._embed(batch.states, batch.tokens), episodes(batch)
        step = self._distance(embedded, at_records(embedded, batch.next_index))
        over = masked_mean((step - 1).relu().square(), batch.reaches)
        later, steps = self._later(episode)
        way = self._distance(embedded, at_records(embedded, later))
        over = over + masked_mean(((way - steps).relu() / steps.clamp_min(1 / self.span)).square(), steps > 0)
        apart, together = self._apart(embedded, episode)
        push = masked_mean(SOFTNESS * F.softplus((self.far - apart) / SOFTNESS), together)
        return push + self.tightness * over, {
            "value": masked_mean(apart, together).detach(),
            "step": masked_mean(step, batch.reaches).detach(),
            "excess": over.detach(),
        }

    def fit(
        self,
        state: Float[Tensor, "R D"],
        goal: Float[Tensor, "R D"],
        steps: Float[Tensor, " R"],
        tokens: Float[Tensor, "R K C"],
    ) -> Loss:
        """Loss to ways that are known, `steps` of the level long: the fewest steps are as many at the most.

        Huber's, in which a distance that is too long weighs more than one that is too short (expectile regression).
        """
        distance = self._distance(self._embed(state, tokens), self._embed(goal, tokens))
        too_long = distance.detach() > steps
        weight = torch.where(too_long, 1 - self.expectile, self.expectile)
        loss = (2 * weight * F.huber_loss(distance, steps, reduction="none")).mean()
        error = (distance.detach() - steps).abs().mean()
        return loss, {"value": distance.detach().mean(), "error": error}

    def _later(self, episode: Int[Tensor, "B T"]) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
        """For each record a later one of its episode, and how many steps of the level later, parts of a step counted;
        0 where none is drawn."""
        count = episode.shape[1]
        time = torch.arange(count, device=episode.device)
        at = time + torch.randint_like(episode, 1, max(min(self.longest * self.span, count - 1), 1) + 1)
        at = torch.where(at < count, at, time)
        at = torch.where(episode.gather(1, at) == episode, at, time)
        return at, (at - time) / self.span

    def _apart(
        self, embedded: Float[Tensor, "B T E"], episode: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Distance of each record to a random one of its window, and whether both are of one episode."""
        other = torch.randint_like(episode, episode.shape[1])
        return self._distance(embedded, at_records(embedded, other)), episode.gather(1, other) == episode

    def imagined_loss(
        self, predicted: Float[Tensor, "R D"], actual: Float[Tensor, "R D"], tokens: Float[Tensor, "R K C"]
    ) -> Loss:
        """Huber's loss of the distances from predicted states to those from actual ones, to other rows' actual states:
        a search compares predictions by nothing else."""
        with torch.no_grad():
            embedded = self._embed(actual, tokens)
            goals = embedded[torch.randperm(len(embedded), device=embedded.device)]
            goals = torch.stack((goals, goals.roll(1, 0)))
            aim = self._distance(embedded, goals)
        loss = F.huber_loss(self._distance(self._embed(predicted, tokens), goals), aim)
        return loss, {"imagined": loss.detach()}


def episodes(batch: CriticBatch) -> Int[Tensor, "B T"]:
    """Number of each record's episode within its window: records of one follow each other without a break, and where
    none begins a step the episode ends."""
    time = torch.arange(batch.next_index.shape[1], device=batch.next_index.device)
    begins = (batch.next_index > time).long()
    return F.pad(1 - begins, (1, 0))[:, :-1].cumsum(1)
