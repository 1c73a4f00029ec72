"""What the agent learns from a batch of windows: every level's JEPA, critics, and the distilled policies."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from hjepa.agent import Agent
from hjepa.cost import intrinsic_energy
from hjepa.data.spans import actions_taken, spans
from hjepa.nets import at_records
from hjepa.types import CriticBatch, Info, LevelBatch, Spans, Task, Trajectory, Walked


class NonFiniteError(RuntimeError):
    """A number to learn from, a loss or a gradient is not finite; raised while the weights are still good."""


@dataclass(frozen=True)
class Shaping:
    """Which losses reach which encoders."""

    critic_shapes_encoder: bool
    """Whether the critic's gradient reaches perception and encoders."""
    upper_shapes_lower: bool
    """Whether an upper level's loss reaches the encoders of the levels below."""


@dataclass(frozen=True)
class Windows:
    """A batch, encoded: level states online and averaged, and each level's steps."""

    states: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    spans: tuple[Spans, ...]
    actions: Int[Tensor, "B T"]
    task: Task
    """Flattened over B*T."""
    tokens: Float[Tensor, "B T K C"]


@dataclass(frozen=True)
class Taken:
    """The choice of a level that begins at each record of a batch."""

    indices: Int[Tensor, "B T"]
    """Into the level's action table; -1 where none begins."""
    embeddings: Float[Tensor, "B T M"]
    """What the level above sees of it."""


def agent_loss(agent: Agent, trajectory: Trajectory, shaping: Shaping) -> tuple[Tensor, Info]:
    """The whole loss of a training batch: world models, critics and actor, each level's terms named `level_N/...`."""
    windows = encode(agent, trajectory, shaping)
    require_finite(trajectory, windows)
    total, info = windows.states[0].new_zeros(()), Info()
    walked: list[Walked] = []
    lower_actions = one_hot_actions(windows.actions, agent.spec.env.num_actions)
    for level in range(len(agent.spec.levels)):
        batch = level_batch(windows, level, lower_actions)
        taken = choices_taken(agent, windows, batch, level)
        loss, terms = agent.world_models[level].loss(batch, windows.states[level], windows.targets[level])  # type: ignore[operator]
        total = total + loss
        info |= named(f"level_{level}", terms)
        steps = critic_batch(windows, level, taken.indices, shaping)
        loss, terms = critic_loss(agent, windows, level, steps, lower_actions)
        total = total + loss
        info |= named(f"critic_{level}", terms)
        if agent.actor.learns_in_hindsight:
            walked.append(walked_to(agent, windows, level, steps))
        lower_actions = taken.embeddings
    calibrate(agent, windows)
    flat = tuple(state.detach().flatten(0, 1) for state in windows.states)
    loss, terms = agent.actor.loss(agent.world, flat, windows.task, tuple(walked))
    return total + loss, info | named("actor", terms)


def encode(agent: Agent, trajectory: Trajectory, shaping: Shaping) -> Windows:
    """Perceive and lift a batch, with the online networks and with their averages."""
    batch, time = trajectory.is_first.shape
    task = agent.configure(trajectory.observation.mission.flatten(0, 1))
    tokens = task.tokens.view(batch, time, *task.tokens.shape[1:])
    arguments = (trajectory.observation, trajectory.previous_action, trajectory.is_first, trajectory.carries)
    online = agent.perception.observe(*arguments, tokens)
    with torch.no_grad():
        average = agent.target_perception.observe(*arguments, tokens)
    states, targets = [online], [average]
    for level in range(1, len(agent.spec.levels)):
        below = states[-1] if shaping.upper_shapes_lower else states[-1].detach()
        states.append(agent.world_models[level].encoder(below, tokens))  # type: ignore[operator,union-attr]
        with torch.no_grad():
            targets.append(agent.target_encoders[level](targets[-1], tokens))  # type: ignore[operator,index]
    ends = (trajectory.is_first, trajectory.terminated, trajectory.truncated, trajectory.energies)
    steps = tuple(spans(*ends, level.span, level.discount) for level in agent.spec.levels)
    actions = actions_taken(trajectory.previous_action, trajectory.is_first)
    return Windows(tuple(states), tuple(targets), steps, actions, task, tokens)


def require_finite(trajectory: Trajectory, windows: Windows) -> None:
    """Raise NonFiniteError, naming what is not finite, before running statistics and the critics' units take it in."""
    parts = {"energies": trajectory.energies}
    for level, (state, target) in enumerate(zip(windows.states, windows.targets, strict=True)):
        parts |= {f"state of level {level}": state, f"target state of level {level}": target}
    finite = torch.stack([torch.isfinite(part).all() for part in parts.values()])
    if not bool(finite.all()):
        names = [name for name, good in zip(parts, finite.tolist(), strict=True) if not good]
        raise NonFiniteError(f"not finite in the batch: {', '.join(names)}; the weights were not changed")


def one_hot_actions(actions: Int[Tensor, "B T"], num_actions: int) -> Float[Tensor, "B T A"]:
    """One-hot environment actions, zero where none was taken."""
    return one_hot(actions.clamp_min(0), num_actions).float() * (actions >= 0)[..., None]


def level_batch(windows: Windows, level: int, lower_actions: Tensor) -> LevelBatch:
    """One level's share; above level 0 the states below are inputs only."""
    below = max(level - 1, 0)
    return LevelBatch(
        windows.states[below].detach() if level > 0 else windows.states[0],
        windows.targets[below],
        lower_actions,
        windows.spans[level],
        windows.tokens,
    )


@torch.no_grad()
def choices_taken(agent: Agent, windows: Windows, batch: LevelBatch, level: int) -> Taken:
    """The choice of `level` that begins at each record (targets detached)."""
    model = agent.world_models[level]
    if level == 0:
        return Taken(windows.actions, batch.lower_actions @ model.action_encoder.table())  # type: ignore[operator,union-attr]
    embeddings, weights = model.infer_actions(batch)  # type: ignore[operator]
    return Taken(torch.where(batch.spans.valid, weights.argmax(-1), -1), embeddings)


@torch.no_grad()
def walked_to(agent: Agent, windows: Windows, level: int, steps: CriticBatch) -> Walked:
    """What `level` did at each record, and a state of the level above, one of its steps later or (at random) less."""
    reached, goal = steps.choices >= 0, torch.zeros_like(windows.states[level])
    if level + 1 < len(agent.spec.levels):
        longest = agent.spec.levels[level + 1].stride
        far = torch.randint(1, longest + 1, reached.shape, device=reached.device)
        end = torch.arange(reached.shape[1], device=reached.device).expand_as(far)
        for taken in range(longest):
            goes_on = far > taken
            reached = reached & (~goes_on | steps.reaches.gather(1, end))
            end = torch.where(goes_on, steps.next_index.gather(1, end), end)
        goal = at_records(windows.states[level + 1], end)
    after = at_records(windows.states[level], steps.next_index)
    advantage = agent.critics[level].advantages(steps, agent.target_critics[level])  # type: ignore[operator,index]
    return Walked(
        steps.choices.clamp_min(0).flatten(),
        goal.flatten(0, 1),
        reached.flatten(),
        after.flatten(0, 1),
        steps.reaches.flatten(),
        advantage.flatten(),
    )


def critic_batch(windows: Windows, level: int, choices: Int[Tensor, "B T"], shaping: Shaping) -> CriticBatch:
    """The stored triples of a level, with its choice at each."""
    states = windows.states[level] if shaping.critic_shapes_encoder else windows.states[level].detach()
    step = windows.spans[level]
    weight = windows.task.intrinsic_weights.view(*step.energies.shape[:2], -1)
    return CriticBatch(
        states,
        windows.targets[level],
        choices,
        intrinsic_energy(step.energies, weight),
        step.end,
        step.reaches,
        step.ended,
        windows.tokens,
    )


def critic_loss(
    agent: Agent, windows: Windows, level: int, steps: CriticBatch, lower_actions: Tensor
) -> tuple[Tensor, Info]:
    """Temporal-difference loss on stored triples, and agreement of predicted with perceived states."""
    critic = agent.critics[level]
    loss, info = critic.loss(steps, agent.target_critics[level])  # type: ignore[operator,index]
    predicted, actual = one_step(agent, windows, level, steps.states, lower_actions)
    imagined, terms = critic.imagined_loss(predicted, actual, windows.tokens.flatten(0, 1))  # type: ignore[operator]
    return loss + imagined, info | terms


def one_step(
    agent: Agent, windows: Windows, level: int, states: Float[Tensor, "B T D"], lower_actions: Tensor
) -> tuple[Float[Tensor, "R D"], Float[Tensor, "R D"]]:
    """Predicted (from `states`) and actual end states of every step; the actual one twice where it reaches no
    record."""
    model, step = agent.world_models[level], windows.spans[level]
    if level == 0:
        action = lower_actions @ model.action_encoder.table()  # type: ignore[operator,union-attr]
    else:
        action = model.infer_actions(level_batch(windows, level, lower_actions))[0]  # type: ignore[operator]
    latent = states.new_zeros(*states.shape[:-1], model.latent.dim)  # type: ignore[union-attr,arg-type]
    predicted = model.predict(states, action, latent, windows.tokens).state  # type: ignore[operator]
    actual = at_records(windows.targets[level], step.end)
    predicted = torch.where(step.reaches[..., None], predicted, actual)
    return predicted.flatten(0, 1), actual.flatten(0, 1)


@torch.no_grad()
def calibrate(agent: Agent, windows: Windows) -> None:
    """Tell the actor how far states typically move over one step of the level above; nan where no window holds one."""
    lifted, own = [], []
    for level, step in enumerate(windows.spans[1:], start=1):
        count = step.reaches.sum()
        for into, states in ((lifted, windows.targets[level]), (own, windows.targets[level - 1])):
            moved = torch.linalg.vector_norm(at_records(states, step.end) - states, dim=-1)
            into.append((moved * step.reaches).sum() / count)
    if lifted:
        agent.actor.calibrate(torch.stack(lifted), torch.stack(own))


def named(prefix: str, terms: Info) -> Info:
    """Prefix the names of a part's terms."""
    return {f"{prefix}/{name}": value for name, value in terms.items()}
