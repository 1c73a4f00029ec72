"""How far the world models can be trusted: predictions against what was then perceived, by level and depth.

Teacher-forced: one step from a perceived state. Open-loop: the model's own states are fed back, under the actions that
were taken. Planned: the states that a plan promised, whatever was then done; the rest of the gap is re-planning.
Errors are squared and relative to the variance of the level's states, so that predicting the mean gives 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot

from hjepa.agent import Agent
from hjepa.cost import intrinsic_energy
from hjepa.data.spans import actions_taken, spans
from hjepa.log import sample_tags
from hjepa.log.sample import Sample
from hjepa.parts import ActionEncoder
from hjepa.types import LevelBatch, Spans

MAX_DEPTH = 5
FEWEST = 8
"""Fewer starts than these give no figure."""


@dataclass(frozen=True)
class LevelSteps:
    """One level's steps through a sample."""

    spans: Spans
    actions: Float[Tensor, "B T M"]
    """Embedding of the level's action that begins at each record, as inferred from what was done."""


@torch.no_grad()
def level_steps(agent: Agent, sample: Sample) -> list[LevelSteps]:
    """Every level's steps, lowest first."""
    ends = (sample.is_first, sample.terminated, sample.truncated, sample.energies)
    taken = actions_taken(sample.previous_action, sample.is_first)
    lower = one_hot(taken.clamp_min(0), agent.spec.env.num_actions).float() * (taken >= 0)[..., None]
    found = []
    for level, spec in enumerate(agent.spec.levels):
        model, below = agent.world.world_models[level], sample.levels[max(level - 1, 0)].state
        step = spans(*ends, spec.span, spec.discount)
        if level == 0:
            lower = lower @ model.action_encoder.table()
        else:
            lower = model.infer_actions(LevelBatch(below, below, lower, step, sample.task.tokens))[0]
        found.append(LevelSteps(step, lower))
    return found


@torch.no_grad()
def prediction_scalars(agent: Agent, sample: Sample) -> dict[str, float]:
    """Relative errors by tag; depths that too few records reach are left out."""
    scalars: dict[str, float] = {}
    for level, steps in enumerate(level_steps(agent, sample)):
        scalars |= _level_scalars(agent, sample, level, steps)
    return scalars


@torch.no_grad()
def gap_scalars(agent: Agent, sample: Sample) -> dict[str, float]:
    """Energy that plans promised over their horizon against what was then met, both with the critic at the end."""
    scalars: dict[str, float] = {}
    for level in range(len(sample.levels)):
        known, promised, met = reality_gap(agent, sample, level)
        if int(known.sum()) >= FEWEST:
            scalars[sample_tags.GAP_PROMISED(level)] = float(promised[known].mean())
            scalars[sample_tags.GAP_MET(level)] = float(met[known].mean())
            scalars[sample_tags.GAP_ENERGY(level)] = float((promised - met)[known].mean())
            scalars[sample_tags.GAP_SIZE(level)] = float((promised - met)[known].abs().mean())
    return scalars


@torch.no_grad()
def reality_gap(
    agent: Agent, sample: Sample, level: int
) -> tuple[Bool[Tensor, "B T"], Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Where a plan was made and seen to its end, the energy it promised, and the energy that was met.

    Both are sum of gamma^t IC + gamma^H TC, without the distance to the subgoal.
    """
    spec, decision = agent.spec.levels[level], sample.levels[level]
    length = spec.horizon * spec.span
    ends = (sample.is_first, sample.terminated, sample.truncated, sample.energies)
    ahead = spans(*ends, length, spec.discount)
    weight = sample.task.critic_weights[..., level]
    value = decision.value.gather(1, ahead.end) * weight
    met = intrinsic_energy(ahead.energies, sample.task.intrinsic_weights)
    met = met + torch.where(ahead.ended, 0.0, spec.discount**length * value)
    planned = (decision.actions >= 0).all(-1)
    return planned & ahead.valid, _promise(agent, sample, level), met


def _promise(agent: Agent, sample: Sample, level: int) -> Float[Tensor, "B T"]:
    """Energy of each record's plan by the world model alone; meaningless where there is no plan."""
    model, decision, task = agent.world.world_models[level], sample.levels[level], sample.task
    spec, state = agent.spec.levels[level], decision.state
    log_discount, total = torch.zeros_like(decision.value), torch.zeros_like(decision.value)
    step_discount = torch.tensor(spec.discount, device=state.device).log() * spec.span
    latent = state.new_zeros(*state.shape[:-1], model.latent.dim)
    for choice in decision.actions.clamp_min(0).unbind(-1):
        predicted = model.predict(state, model.action_encoder.table()[choice], latent, task.tokens)
        drives = agent.world.intrinsic_cost.predicted(predicted.energies)
        total = total + log_discount.exp() * intrinsic_energy(drives, task.intrinsic_weights)
        log_discount = log_discount + step_discount + predicted.log_continue
        state = predicted.state
    top = level == len(agent.spec.levels) - 1
    goal = task.goal if top else torch.zeros_like(state)
    has_goal = task.has_goal if top else torch.zeros_like(task.has_goal)
    value = agent.world.critics[level](state, goal, has_goal, task.tokens)
    return total + log_discount.exp() * task.critic_weights[..., level] * value


@torch.no_grad()
def macro_scalars(agent: Agent, sample: Sample) -> dict[str, float]:
    """How the planners above level 0 use their macro-actions; {} where none planned."""
    scalars: dict[str, float] = {}
    for level in range(1, len(sample.levels)):
        chosen = chosen_macro_actions(sample, level)
        if len(chosen) < FEWEST:
            continue
        encoder = agent.world.world_models[level].action_encoder
        share = torch.bincount(chosen, minlength=encoder.num_actions) / len(chosen)
        scalars[sample_tags.MACRO_CHOSEN_PERPLEXITY(level)] = float(torch.special.entr(share).sum().exp())
        scalars[sample_tags.MACRO_SUPPORT(level)] = _support(encoder, sample, level)
    return scalars


def chosen_macro_actions(sample: Sample, level: int) -> Tensor:
    """First macro-action of every plan of a level, [R]."""
    first = sample.levels[level].actions[..., 0]
    return first[first >= 0]


def _support(encoder: ActionEncoder, sample: Sample, level: int) -> float:
    decision = sample.levels[level]
    planned = decision.actions[..., 0] >= 0
    prior = encoder.support(decision.state[planned])
    return float(prior.gather(-1, decision.actions[planned][:, :1]).mean())


def _level_scalars(agent: Agent, sample: Sample, level: int, steps: LevelSteps) -> dict[str, float]:
    decision, model = sample.levels[level], agent.world.world_models[level]
    state, span, time = decision.state, agent.spec.levels[level].span, sample.is_first.shape[1]
    variance = state.flatten(0, 1).var(0).mean().clamp_min(1e-8)
    tokens = sample.task.tokens
    latent = state.new_zeros(*state.shape[:-1], model.latent.dim)
    one_step = model.predict(state, steps.actions, latent, tokens).state
    reaches, rolled, scalars = steps.spans.reaches, state, {}
    alive = torch.ones_like(reaches)
    for depth in range(1, min(MAX_DEPTH, (time - 1) // span) + 1):
        begin, starts = (depth - 1) * span, time - depth * span
        alive = alive[:, :starts] & reaches[:, begin : begin + starts]
        action = steps.actions[:, begin : begin + starts]
        rolled = model.predict(rolled[:, :starts], action, latent[:, :starts], tokens[:, :starts]).state
        target = state[:, depth * span :]
        pairs = [
            (sample_tags.TEACHER_FORCED, one_step[:, begin : begin + starts], alive),
            (sample_tags.OPEN_LOOP, rolled, alive),
        ]
        if depth <= decision.states.shape[2]:
            planned = decision.states[:, :starts, depth - 1]
            pairs.append((sample_tags.PLANNED, planned, alive & planned.isfinite().all(-1)))
        for tag, predicted, mask in pairs:
            if int(mask.sum()) >= FEWEST:
                error = (predicted - target)[mask].square().mean() / variance
                scalars[tag(level, depth)] = float(error)
    return scalars
