"""One level's joint-embedding predictive architecture: rollouts, energy readouts and their losses."""

from dataclasses import dataclass
from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig, Slot, choose
from hjepa.interfaces import ActionEncoder, Encoder, Latent, Loss, Objective, Predictor, WorldModel
from hjepa.losses import inverse_dynamics, masked_mean, temporal_variance, time_similarity
from hjepa.nets import MLP, effective_rank
from hjepa.types import Info, LevelBatch, LevelSpec, Prediction

NEGLIGIBLE = 1e-3
"""Share of a drive's largest energy up to which a step counts as free of it."""


@dataclass(frozen=True)
class _Rollout:
    """Predictions from every record, all steps one after another along R."""

    predictions: Float[Tensor, "R D"]
    targets: Float[Tensor, "R D"]
    reached: Bool[Tensor, " R"]
    """The predicted state has a target."""
    readouts: Float[Tensor, "R heads"]
    energies: Float[Tensor, "R U"]
    ended: Bool[Tensor, " R"]
    valid: Bool[Tensor, " R"]
    """The readouts have a target."""
    information: Float[Tensor, " R"]
    """R(z) in nats."""
    lengths: tuple[int, ...]
    """Rows of each step."""


class JEPA(WorldModel):
    """Encoder, action encoder, predictor, objective and latent variable of a level (L22 sections 4.4 to 4.6).

    E(s, a, z, s') is the mean squared difference of s' and the prediction. Rollouts start from every record
    of a window at once, and rely on `Spans`: a step that `reaches` ends exactly `span` records later.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "world_model"
        kind: Literal["jepa"] = "jepa"
        encoder: Annotated[ModuleConfig, Slot("encoder")] = choose("encoder", "mlp")
        """Lifts the state of the level below; level 0 always has `identity`."""
        action_encoder: Annotated[ModuleConfig, Slot("action_encoder")] = choose("action_encoder", "codes")
        """The choices of the level; level 0 always has `discrete`."""
        predictor: Annotated[ModuleConfig, Slot("predictor")] = choose("predictor", "residual")
        """Predicts the next state."""
        objective: Annotated[ModuleConfig, Slot("objective")] = choose("objective", "ema")
        """Prediction error and anti-collapse terms."""
        latent: Annotated[ModuleConfig, Slot("latent")] = choose("latent", "none")
        """The latent variable z."""
        rollout: int = Field(4, ge=1, le=64)
        """Steps of this level rolled out in the loss, or as many as the window holds."""
        hidden: int = Field(128, gt=0)
        """Width of the hidden layers of the readouts."""
        prediction: float = Field(1.0, ge=0)
        """Weight of the objective."""
        inverse_dynamics: float = Field(0.05, ge=0)
        """Weight of telling the action from the states around it (against slow features)."""
        temporal_variance: float = Field(0.0, ge=0)
        """Weight of the hinge on the std over a window's time."""
        time_similarity: float = Field(0.0, ge=0)
        """Weight of the squared difference of neighbouring states."""
        energy: float = Field(1.0, ge=0)
        """Weight of the energy readout."""
        continuation: float = Field(0.5, ge=0)
        """Weight of the readout of whether the episode goes on."""
        lower: float = Field(1.0, ge=0)
        """Weight of the readout of the lower level's state; it shapes nothing else."""
        information: float = Field(0.05, ge=0)
        """Weight of R(z), the information penalty of z."""

    energy_scale: Tensor
    """[U] largest magnitude of each drive's energy over a step, slowly decaying: the readout's unit."""

    def __init__(
        self,
        config: Config,
        spec: LevelSpec,
        encoder: Encoder,
        action_encoder: ActionEncoder,
        predictor: Predictor,
        objective: Objective,
        latent: Latent,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder, self.action_encoder, self.predictor = encoder, action_encoder, predictor
        self.objective, self.latent = objective, latent
        self.rollout_steps = config.rollout
        self.prediction, self.information = config.prediction, config.information
        self.energy, self.continuation, self.lower_weight = config.energy, config.continuation, config.lower
        self.inverse_dynamics = config.inverse_dynamics
        self.temporal_variance, self.time_similarity = config.temporal_variance, config.time_similarity
        self.readout = self._readout_head(config.hidden)
        self.inverse = MLP(2 * spec.dim, config.hidden, spec.action_dim, 1)
        # Level 0 is perception's state itself.
        self.lower_head = MLP(spec.dim, config.hidden, spec.lower_dim, 1) if spec.index > 0 else nn.Identity()
        self.register_buffer("energy_scale", torch.full((spec.num_drives,), 1e-6))
        with torch.no_grad():
            # A predictor may take the width of z from its first call.
            widths = (spec.dim, spec.action_dim, latent.dim)
            self.predictor(*(torch.zeros(1, width) for width in widths), torch.zeros(1, 1, spec.token_dim))

    def _readout_head(self, hidden: int) -> MLP:
        """Logits of meeting each drive's energy, how much if met, and the continue logit; at first nothing is met."""
        drives = self.spec.num_drives
        head = MLP(2 * self.spec.dim + self.spec.action_dim, hidden, 2 * drives + 1, 1)
        last = head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        nn.init.constant_(last.bias[:drives], -3.0)
        nn.init.constant_(last.bias[-1], 3.0)
        return head

    def predict(
        self,
        state: Float[Tensor, "*B D"],
        action: Float[Tensor, "*B M"],
        latent: Float[Tensor, "*B Z"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Prediction:
        after = self.predictor(state, action, latent, tokens)
        readouts = self.readout(torch.cat((state, action, after), -1))
        met, amount, going = self._split(readouts)
        return Prediction(after, met.sigmoid() * amount * self.energy_scale, F.logsigmoid(going))

    def _split(self, readouts: Float[Tensor, "*B heads"]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of meeting each drive's energy [*B, U], how much if met [*B, U], continue logit [*B]."""
        drives = self.spec.num_drives
        return readouts[..., :drives], readouts[..., drives:-1], readouts[..., -1]

    def lower(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B Dl"]:
        return self.lower_head(state)

    def free_energy(
        self,
        state: Float[Tensor, "*B D"],
        action: Float[Tensor, "*B M"],
        tokens: Float[Tensor, "*B K C"],
        target: Float[Tensor, "*B D"],
    ) -> Float[Tensor, "*B"]:
        """F = min_z E(s, a, z, s') over the candidates of z (L22 section 4.4); exact for discrete z."""
        latent = self.latent.candidates(state)
        samples, lead = latent.shape[-2], state.shape[:-1]
        state, action, target = (tensor.unsqueeze(-2).expand(*lead, samples, -1) for tensor in (state, action, target))
        tokens = tokens.unsqueeze(-3).expand(*lead, samples, -1, -1)
        return (self.predictor(state, action, latent, tokens) - target).square().mean(-1).amin(-1)

    def infer_actions(self, batch: LevelBatch) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B T A"]]:
        """The action of this level behind the segment from each record, and its weights over the choices.

        A segment that is cut short repeats its last state, and has zero actions from there on.
        """
        spec, end = self.spec, batch.spans.end.unsqueeze(-1)
        rows, time = batch.spans.end.shape
        records = torch.arange(time, device=end.device)
        records = records.unsqueeze(1) + torch.arange(spec.stride + 1, device=end.device) * (spec.span // spec.stride)
        index = records.minimum(end) + time * torch.arange(rows, device=end.device).view(-1, 1, 1)
        states = _take(batch.lower_states, index)
        actions = _take(batch.lower_actions, index[..., :-1])
        actions = actions * (records[:, :-1] < end).unsqueeze(-1)
        return self.action_encoder.infer(states, actions)

    def loss(self, batch: LevelBatch, states: Float[Tensor, "B T D"], targets: Float[Tensor, "B T D"]) -> Loss:
        action, weights = self.infer_actions(batch)
        aims = targets if self.objective.target_network else states
        rollout = self._rollout(batch, states, aims, action)
        parts = [
            self._objective_loss(states, rollout),
            self._readout_loss(batch, rollout),
            self._inverse_loss(batch, states, weights),
            self._action_loss(batch, states, weights),
            self._slowness_loss(batch, states),
            self._lower_loss(batch, states),
        ]
        info = Info()
        for _, terms in parts:
            info |= terms
        return torch.stack([loss for loss, _ in parts]).sum(), info | self._errors(rollout)

    def _rollout(self, batch: LevelBatch, states: Tensor, aims: Tensor, action: Tensor) -> _Rollout:
        """Predict 1, 2, ... steps from every record but those too near the window's end to start one."""
        spans, span, time = batch.spans, self.spec.span, states.shape[1]
        steps = max(min(self.rollout_steps, (time - 1) // span), 1)
        state, alive = states, torch.ones_like(spans.reaches)
        found: list[tuple[Tensor, ...]] = []
        for begin in range(0, steps * span, span):
            # Where row t is alive, its earlier steps all reached, so this one starts at record t + begin.
            now, starts = slice(begin, time - 1), time - 1 - begin
            state, alive = state[:, :starts], alive[:, :starts]
            aim, act = _shift(aims, begin + span, starts), action[:, now]
            latent, information = self.latent.infer(state, act, aim)
            after = self.predictor(state, act, latent, batch.tokens[:, now])
            readouts = self.readout(torch.cat((state, act, after), -1))
            reached, ended = alive & spans.reaches[:, now], spans.ended[:, now]
            valid, energies = alive & spans.valid[:, now], spans.energies[:, now]
            found.append((after, aim, reached, readouts, energies, ended, valid, information))
            # A record that ends its episode begins no step, so nothing goes on from there.
            state, alive = after, reached
        lengths = tuple(after.shape[0] * after.shape[1] for after, *_ in found)
        flat = [torch.cat([part.flatten(0, 1) for part in parts]) for parts in zip(*found, strict=True)]
        return _Rollout(*flat, lengths=lengths)

    def _objective_loss(self, states: Tensor, rollout: _Rollout) -> Loss:
        """Prediction, anti-collapse and information terms: L22's four criteria, each named in the info."""
        loss, info = self.objective(states, rollout.predictions, rollout.targets, rollout.reached)
        information = masked_mean(rollout.information, rollout.reached)
        info |= {"latent_information": information.detach()}
        return self.prediction * loss + self.information * information, info

    def _readout_loss(self, batch: LevelBatch, rollout: _Rollout) -> Loss:
        """Whether a drive's energy is met (cross-entropy) and, where it is, how much (Huber, in units of its largest).

        Energies are mostly zero: a single regression would err there by more than plans differ from each other.
        """
        if self.training:
            self._update_scale(batch)
        met, amount, going = self._split(rollout.readouts)
        target = rollout.energies / self.energy_scale
        occurs = target.abs() > NEGLIGIBLE
        chance = F.binary_cross_entropy_with_logits(met, occurs.float(), reduction="none").sum(-1)
        chance = masked_mean(chance, rollout.valid)
        error = F.huber_loss(amount, target, reduction="none")
        size = masked_mean(error, occurs & rollout.valid[:, None])
        ends = F.binary_cross_entropy_with_logits(going, 1.0 - rollout.ended.float(), reduction="none")
        ends = masked_mean(ends, rollout.valid)
        info = {"energy_met": chance.detach(), "energy_readout": size.detach(), "continue": ends.detach()}
        return self.energy * (chance + size) + self.continuation * ends, info

    @torch.no_grad()
    def _update_scale(self, batch: LevelBatch) -> None:
        """Largest magnitude of each drive's energies, forgotten by 1e-4 an update."""
        met = torch.where(batch.spans.valid.unsqueeze(-1), batch.spans.energies.abs(), 0.0).amax((0, 1))
        self.energy_scale.mul_(1 - 1e-4).copy_(torch.maximum(self.energy_scale, met).clamp_min(1e-6))

    def _inverse_loss(self, batch: LevelBatch, states: Tensor, weights: Tensor) -> Loss:
        """Tell which choice leads from a state to the next; choices are known by their embeddings."""
        time = states.shape[1]
        pair = torch.cat((states[:, :-1], _shift(states, self.spec.span, time - 1)), -1)
        table = self.action_encoder.table().detach()
        logits = self.inverse(pair) @ table.T / sqrt(table.shape[-1])
        loss, info = inverse_dynamics(logits, weights[:, :-1], batch.spans.reaches[:, :-1])
        return self.inverse_dynamics * loss, info

    def _action_loss(self, batch: LevelBatch, states: Tensor, weights: Tensor) -> Loss:
        """The action encoder's own terms; weights are zero where no step is valid."""
        weights = weights * batch.spans.valid.unsqueeze(-1)
        return self.action_encoder.loss(weights.flatten(0, 1), states.flatten(0, 1))

    def _slowness_loss(self, batch: LevelBatch, states: Tensor) -> Loss:
        """Terms over time that are off by default."""
        loss, info = states.new_zeros(()), Info()
        if self.temporal_variance > 0:
            part, info = temporal_variance(states)
            loss = loss + self.temporal_variance * part
        if self.time_similarity > 0:
            # A valid step goes on to the next record of the same episode.
            part, terms = time_similarity(states, batch.spans.valid[:, :-1])
            loss, info = loss + self.time_similarity * part, info | terms
        return loss, info

    def _lower_loss(self, batch: LevelBatch, states: Tensor) -> Loss:
        """The readout of the lower state learns from detached states: it shapes no encoder."""
        if self.spec.index == 0:
            return states.new_zeros(()), {}
        error = F.mse_loss(self.lower_head(states.detach()), batch.lower_states.detach())
        return self.lower_weight * error, {"lower_readout": error.detach()}

    @torch.no_grad()
    def _errors(self, rollout: _Rollout) -> Info:
        """Prediction error after 1, 2, ... steps, relative to the targets' variance (the mean gives 1)."""
        error = (rollout.predictions - rollout.targets).square().mean(-1)
        first = rollout.targets[: rollout.lengths[0]]
        # On the CPU `var` over rows takes ten times as long.
        variance = ((first - first.mean(0)).square().sum(0).mean() / (len(first) - 1)).clamp_min(1e-8)
        info = {"rollout_error": masked_mean(error, rollout.reached) / variance}
        steps = zip(error.split(rollout.lengths), rollout.reached.split(rollout.lengths), strict=True)
        for step, (part, mask) in enumerate(steps, start=1):
            info[f"rollout_error_{step}"] = masked_mean(part, mask) / variance
        return info

    @torch.no_grad()
    def monitors(self, states: Float[Tensor, "B T D"]) -> Info:
        """Signs of collapse, for logging steps: std and effective rank of the batch, std within windows."""
        rows = states.flatten(0, 1)
        return {
            "std": rows.std(0).mean(),
            "effective_rank": effective_rank(rows - rows.mean(0)),
            "within_episode_std": states.std(1).mean(),
        }


def _take(values: Float[Tensor, "B T W"], index: Tensor) -> Float[Tensor, "B T N W"]:
    """Rows of the flattened batch at `index` [B, T, N]."""
    return values.flatten(0, 1).index_select(0, index.flatten()).view(*index.shape, -1)


def _shift(states: Float[Tensor, "B T D"], begin: int, length: int) -> Float[Tensor, "B length D"]:
    """Records begin, begin + 1, ..., the last one repeated where the window is over."""
    index = torch.arange(begin, begin + length, device=states.device)
    return states.index_select(1, index.clamp_max(states.shape[1] - 1))
