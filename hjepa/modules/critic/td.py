"""Temporal-difference critic, blind to the energy's scale: values of choices, or an expectile above level 0."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Critic, Loss
from hjepa.losses import masked_mean
from hjepa.nets import MLP, FiLM
from hjepa.types import CriticBatch, Info, LevelSpec


class TemporalDifferenceCritic(Critic):
    """Regresses the n-step target sum_{i<n} gamma^i e_{t+i} + gamma^n V(s_{t+n}) (L22 section 3.3, Fig. 7).

    Level 0 has a head for every environment action and is trained as double Q-learning (van Hasselt et al.
    2016, with argmin for argmax): V(s) = min_a Q(s, a); so are levels above with `choices`, a head for every
    entry of their action table. Without, they regress an expectile of the targets (Kostrikov et al. 2022,
    eq. 5). The network's outputs are in units of the targets' running spread around their running mean, so
    energies times any factor give the same updates. gamma is the discount over one step of the level.
    """

    class Config(ModuleConfig):
        """Settings of the temporal-difference critic."""

        slot: ClassVar[str] = "critic"
        kind: Literal["td"] = "td"
        width: int = Field(256, gt=0)
        """Width of the hidden layers."""
        layers: int = Field(2, ge=1, le=8)
        """Hidden layers."""
        steps: int = Field(5, ge=1)
        """n: steps of the level whose energies are summed before the target critic takes over."""
        expectile: float = Field(0.3, gt=0, lt=1)
        """Without heads for choices: weight of an under-estimate, against one minus it for an over-estimate. Below 0.5
        the value leans to the lowest energies seen from a state (optimism); 0.5 is the mean."""
        choices: bool = False
        """Whether levels above 0, too, have a head for every choice. Their values then tell choices apart as `gap` has
        it, where values of predicted states differ by less than they err; for tables whose entries keep their
        meaning, such as codes of actions alone."""
        gap: float = Field(0.0, ge=0, lt=1)
        """With heads for choices: alpha of advantage learning (Bellemare et al. 2016, eq. 7): the target of a choice
        grows by so much of its lag behind the best one, which multiplies the gaps between choices by 1 / (1 - alpha)
        and leaves the best as it is. One step more or less changes a value by 1 - discount of it, far less than a
        network errs."""
        continuing: bool = False
        """Whether the end of an episode is followed by the mean energy of steps that end none for ever, as there is a
        next one (curiosity's returns that go on past an episode's end, Burda et al. 2018, arXiv 1810.12894, section
        2.3). Without, an end forgoes all novelty to come: success is put off, and what may be one is not tried."""
        huber: float = Field(3.0, gt=0)
        """Errors beyond so many spreads count linearly (scalar head). Small values pull toward the median,
        which forgets rare successes."""
        bins: int = Field(0, ge=0, le=1001)
        """0: a scalar per value and Huber's loss. 2 and more: a categorical distribution over so many bins,
        by cross-entropy with a Gaussian histogram of the target (HL-Gauss, Farebrother et al. 2024)."""
        reach: float = Field(10.0, gt=0)
        """The bins cover so many units on both sides of the mean; targets outside make the unit grow."""
        rate: float = Field(0.02, gt=0, le=1)
        """Rate of the running mean and spread."""
        floor: float = Field(1e-6, gt=0)
        """Smallest spread, in units of energy."""

    mean: Tensor
    variance: Tensor
    ongoing: Tensor | None
    peak: Tensor
    updates: Tensor
    lowest: Tensor
    highest: Tensor
    centres: Tensor

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        """Raises ValueError where `bins` is 1."""
        super().__init__()
        if config.bins == 1:
            raise ValueError("bins must be 0 (a scalar) or at least 2, got 1")
        self.has_choices = spec.index == 0 or config.choices
        self.heads = spec.num_actions if self.has_choices else 1
        self.gamma = spec.discount**spec.span
        self.steps, self.bins, self.reach = config.steps, config.bins, config.reach
        self.rate, self.floor = config.rate, config.floor
        self.huber, self.gap = config.huber, config.gap
        self.expectile = 0.5 if self.has_choices else config.expectile
        self.body = MLP(spec.dim, config.width, config.width, config.layers - 1)
        self.film = FiLM(spec.token_dim, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, self.heads * max(config.bins, 1))
        with torch.no_grad():
            # Nearly equal values at first, but not equal: a tie would always be broken in favour of action 0.
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
        # The extreme energies begin at 0: an episode may end, and then nothing is added to its energy any more.
        for name in ("mean", "variance", "peak", "updates", "lowest", "highest"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("ongoing", torch.zeros(()) if config.continuing else None)
        self.register_buffer("centres", torch.linspace(-config.reach, config.reach, max(config.bins, 2)))

    # -------------------------------------------------------------------------------------------- values
    def forward(
        self,
        state: Float[Tensor, "*B D"],
        goal: Float[Tensor, "*B D"],
        has_goal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B"]:
        return self.action_values(state, tokens).amin(-1)

    def choices(self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B A"] | None:
        return self.action_values(state, tokens) if self.has_choices else None

    def action_values(self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B A"]:
        """Energy-to-go after each choice; without heads for choices that of the state (A = 1)."""
        return self._energy(self._expected(self._outputs(state, tokens)))

    def after_end(self) -> Float[Tensor, ""]:
        """Where the critic is `continuing`, the running mean of the energies of steps that end no episode over
        1 - gamma, and never a cost; else 0."""
        return torch.zeros_like(self.mean) if self.ongoing is None else self.ongoing.clamp_max(0) / (1 - self.gamma)

    def scale(self) -> Float[Tensor, ""]:
        """The unit of the network's outputs, in energy; 0 before the first loss, when every value is 0."""
        spread = self.variance.sqrt()
        if self.bins:
            spread = torch.maximum(spread, self.peak / self.reach)
        return torch.where(self.updates > 0, spread.clamp_min(self.floor), 0.0)

    def _outputs(self, state: Float[Tensor, "*B D"], tokens: Tensor) -> Float[Tensor, "*B A bins"]:
        return self._read(self._features(state, tokens))

    def _features(self, state: Float[Tensor, "*B D"], tokens: Tensor) -> Float[Tensor, "*B width"]:
        return F.silu(self.norm(self.film(self.body(state), tokens)))

    def _read(self, features: Float[Tensor, "*B width"]) -> Float[Tensor, "*B A bins"]:
        return self.head(features).unflatten(-1, (self.heads, -1))

    def _expected(self, outputs: Float[Tensor, "*B bins"]) -> Float[Tensor, "*B"]:
        """Normalised value of the outputs."""
        return outputs.softmax(-1) @ self.centres if self.bins else outputs.squeeze(-1)

    def _energy(self, normalised: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return self.mean + self.scale() * normalised

    # -------------------------------------------------------------------------------------------- learning
    def loss(self, batch: CriticBatch, target: Critic) -> Loss:
        """Mean over the records whose step reaches a record or ends the episode; others have no target."""
        features, valid = self._features(batch.states, batch.tokens), batch.reaches | batch.ended
        self._meet(batch, valid)
        best = self._expected(self._read(features.detach())).detach().argmin(-1)
        taken = torch.zeros_like(best)
        if self.has_choices:
            taken, valid = batch.choices.clamp_min(0), valid & (batch.choices >= 0)
        bootstrap, lag = self._bootstrap(batch, target, best, taken)
        goals = self.targets(batch, bootstrap) + self.gap * lag
        self._track(goals, valid, target)
        # Only now may the head be read with gradient: tracking changed its weights in place.
        outputs = torch.take_along_dim(self._read(features), taken[..., None, None], -2).squeeze(-2)
        value = self._expected(outputs)
        normalised = (goals - self.mean) / self.scale().clamp_min(self.floor)
        weight = torch.where(normalised < value.detach(), 1 - self.expectile, self.expectile)
        loss = masked_mean(2 * weight * self._distance(outputs, value, normalised), valid)
        return loss, self._info(self._energy(value.detach()), goals, valid)

    @torch.no_grad()
    def targets(self, batch: CriticBatch, bootstrap: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """n-step targets along the chains of `next_index`, given every record's value, in units of energy.

        A chain stops where a step `ended` (what follows is `after_end`), and where it reaches no further record: the
        last one it reached then bootstraps, as after a time-out.
        """
        at = torch.arange(batch.energies.shape[1], device=batch.energies.device).expand_as(batch.next_index)
        total, discount = torch.zeros_like(batch.energies), torch.ones_like(batch.energies)
        alive, ended = torch.ones_like(batch.ended), torch.zeros_like(batch.ended)
        after = self.after_end()
        for _ in range(self.steps):
            stops = alive & batch.ended.gather(1, at)
            goes_on = alive & batch.reaches.gather(1, at) & ~stops
            total = torch.where(stops | goes_on, total + discount * batch.energies.gather(1, at), total)
            total = torch.where(stops, total + discount * self.gamma * after, total)
            at = torch.where(goes_on, batch.next_index.gather(1, at), at)
            discount = torch.where(goes_on, discount * self.gamma, discount)
            alive, ended = goes_on, ended | stops
        return torch.where(ended, total, total + discount * bootstrap.gather(1, at))

    @torch.no_grad()
    def advantages(self, batch: CriticBatch, target: Critic) -> Float[Tensor, "B T"]:
        """V(s_t) less the n-step target, both by the target critic, as far as the window goes."""
        assert isinstance(target, TemporalDifferenceCritic)
        values = target.action_values(batch.target_states, batch.tokens).amin(-1)
        return values - self.targets(batch, values)

    @torch.no_grad()
    def _bootstrap(
        self, batch: CriticBatch, target: Critic, best: Int[Tensor, "B T"], taken: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """The target critic's value of the action that this critic likes best (double Q-learning), and by how much the
        action taken is worse than the best one by the target critic.

        No sum of discounted energies lies outside the extremes of a single one over 1 - gamma. Where the critics differ
        in what is best, the value of the one's choice by the other errs upwards by gaps that `gap` has multiplied, and
        without a bound both can grow for ever.
        """
        assert isinstance(target, TemporalDifferenceCritic)
        values = target.action_values(batch.target_states, batch.tokens)
        lag = values.gather(-1, taken[..., None]).squeeze(-1) - values.amin(-1)
        chosen = values.gather(-1, best[..., None]).squeeze(-1)
        return chosen.clamp(self.lowest / (1 - self.gamma), self.highest / (1 - self.gamma)), lag

    @torch.no_grad()
    def _meet(self, batch: CriticBatch, valid: Bool[Tensor, "B T"]) -> None:
        """Move the extreme energies seen so far, and the mean of those that end no episode."""
        energies, ordinary = torch.where(valid, batch.energies, 0.0), valid & ~batch.ended
        if self.ongoing is not None:
            rate = ordinary.any() * (1 / (self.updates + 1)).clamp_min(self.rate)
            self.ongoing.lerp_(masked_mean(energies, ordinary), rate)
        self.lowest.copy_(torch.minimum(self.lowest, energies.amin()))
        self.highest.copy_(torch.maximum(self.highest, energies.amax()))

    @torch.no_grad()
    def _track(self, goals: Float[Tensor, "B T"], valid: Bool[Tensor, "B T"], target: Critic) -> None:
        """Move the running statistics; plain averages at first, so that they need no guess to start from."""
        before = (self.mean.clone(), self.scale())
        some = valid.any().float()
        rate = some * (1 / (self.updates + 1)).clamp_min(self.rate)
        self.mean.lerp_(masked_mean(goals, valid), rate)
        deviation = goals - self.mean
        self.variance.lerp_(masked_mean(deviation.square(), valid), rate)
        largest = torch.where(valid, deviation.abs(), 0.0).amax()
        self.peak.copy_(torch.maximum(self.peak * (1 - rate), largest))
        self.updates.add_(some)
        assert isinstance(target, TemporalDifferenceCritic)
        for critic in (self, target):
            critic._preserve(*before, self.mean, self.scale())
        for theirs, own in zip(target.buffers(), self.buffers(), strict=True):
            theirs.copy_(own)

    def _preserve(self, mean: Tensor, scale: Tensor, new_mean: Tensor, new_scale: Tensor) -> None:
        """Give the scalar head the inverse of a change of units, so that values stay the same (PopArt, van
        Hasselt et al. 2016): else targets, which are made of values, would drift with their own statistics.
        """
        if self.bins:
            return
        known = scale > 0
        ratio = torch.where(known, scale / new_scale.clamp_min(self.floor), 1.0)
        shift = torch.where(known, (mean - new_mean) / new_scale.clamp_min(self.floor), 0.0)
        self.head.weight.mul_(ratio)
        self.head.bias.mul_(ratio).add_(shift)

    def _distance(
        self, outputs: Float[Tensor, "*B bins"], value: Float[Tensor, "*B"], goals: Float[Tensor, "*B"]
    ) -> Float[Tensor, "*B"]:
        """How far outputs are from normalised targets: Huber, or cross-entropy over the bins."""
        if not self.bins:
            return F.huber_loss(value, goals, reduction="none", delta=self.huber)
        return -(self._histogram(goals) * outputs.log_softmax(-1)).sum(-1)

    def _histogram(self, goals: Float[Tensor, "*B"]) -> Float[Tensor, "*B bins"]:
        """Share of a Gaussian of 0.75 bins' width around each target that falls in each bin."""
        width = 2 * self.reach / (self.bins - 1)
        edges = torch.cat((self.centres - width / 2, self.centres[-1:] + width / 2))
        inside = goals.clamp(-self.reach, self.reach)[..., None]
        below = torch.erf((edges - inside) / (0.75 * width * math.sqrt(2)))
        return below.diff(dim=-1) / (below[..., -1:] - below[..., :1])

    def imagined_loss(
        self, predicted: Float[Tensor, "R D"], actual: Float[Tensor, "R D"], tokens: Float[Tensor, "R K C"]
    ) -> Loss:
        """Huber's loss between the normalised values of both, over all heads."""
        with torch.no_grad():
            goals = self._expected(self._outputs(actual, tokens))
        loss = F.huber_loss(self._expected(self._outputs(predicted, tokens)), goals)
        return loss, {"imagined": loss.detach()}

    def _info(self, value: Float[Tensor, "B T"], goals: Float[Tensor, "B T"], valid: Bool[Tensor, "B T"]) -> Info:
        """Means in units of energy, and how well values follow their targets (1 is perfect)."""
        average, goal = masked_mean(value, valid), masked_mean(goals, valid)
        left, right = (value - average) * valid, (goals - goal) * valid
        norm = (left.square().sum() * right.square().sum()).sqrt().clamp_min(torch.finfo(value.dtype).tiny)
        return {
            "value": average,
            "target": goal,
            "error": masked_mean((value - goals).abs(), valid),
            "correlation": (left * right).sum() / norm,
            "scale": self.scale(),
        }
