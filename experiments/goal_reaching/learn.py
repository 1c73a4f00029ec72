"""Learning without reward, level by level: level 0 from images, then what stands on its states."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hjepa.agent import Agent
from hjepa.config import RunConfig
from hjepa.data.sampler import draw
from hjepa.data.spans import actions_taken, spans
from hjepa.data.store import EpisodeStore
from hjepa.envs.seeds import training_seed
from hjepa.envs.vector import Record, VectorEnv
from hjepa.train.learning import (
    Shaping,
    Windows,
    calibrate,
    encode,
    inferred_actions,
    level_batch,
    named,
    one_hot_actions,
)
from hjepa.types import CriticBatch, Info, Spans

REPEAT = 0.75
"""Probability that the last action is taken once more: random actions alone hardly get anywhere."""


@dataclass(frozen=True)
class States:
    """Level-0 states of long streams, N of them."""

    state: Float[Tensor, "N T D"]
    action: Int[Tensor, "N T"]
    """Taken at each record, -1 at the end of an episode."""
    previous_action: Int[Tensor, "N T"]
    is_first: Bool[Tensor, "N T"]
    truncated: Bool[Tensor, "N T"]


def wander(config: RunConfig, frames: int, number: int) -> Iterator[Record]:
    """Records of random actions, each repeated for a while, on training layouts; `number` tells runs apart."""
    rows = config.env.num_envs
    # Rows of another walk are other rows, so that no layout is walked twice.
    env = VectorEnv(
        config.env.id, rows, lambda row, episode: training_seed(config.train.seed, row + number * rows, episode)
    )
    generator = torch.Generator().manual_seed(config.train.seed + number)
    action = torch.zeros(rows, dtype=torch.int64)
    for _ in range(frames // rows):
        yield env.step(action)
        fresh = torch.randint(env.spec.num_actions, (rows,), generator=generator)
        action = torch.where(torch.rand(rows, generator=generator) < REPEAT, action, fresh)
    env.close()


def train(
    parameters: list[nn.Parameter], rate: float, updates: int, step: Callable[[int], tuple[Tensor, Info]], name: str
) -> None:
    """Minimise what `step(n)` gives; the step size warms up for 100 updates and falls over the second half."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-5, eps=1e-5, fused=True)
    begin = perf_counter()
    for update in range(updates):
        share = update / updates
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (update + 1) / 100) * min(1.0, 2 - 1.95 * share)
        loss, info = step(update)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        if (update + 1) % max(updates // 8, 1) == 0:
            shown = " ".join(f"{key}={float(value):.4g}" for key, value in info.items() if key.split("/")[-1] in SHOWN)
            print(f"{name} {update + 1}/{updates} {perf_counter() - begin:.0f}s {shown}", flush=True)


SHOWN = ("rollout_error_1", "rollout_error_2", "rollout_error_5", "inverse_dynamics_accuracy", "std", "step", "value",
         "excess", "imagined")  # fmt: skip


def learn_lowest(agent: Agent, config: RunConfig, frames: int, updates: int) -> None:
    """Perception and the world model of level 0."""
    settings = config.train
    carry = agent.perception.initial(1, torch.device("cpu"))
    store = EpisodeStore(frames, config.env.num_envs, agent.spec.env, len(agent.spec.drives), carry, Path("unused"))
    nothing = torch.zeros(config.env.num_envs, len(agent.spec.drives))
    for record in wander(config, frames, 0):
        store.append(record, nothing, carry.expand(config.env.num_envs, -1))
    model = agent.world_models[0]
    agent.train()

    def step(update: int) -> tuple[Tensor, Info]:
        batch = draw(store, settings.seed, update, settings.batch_size, settings.window)
        windows = encode(agent, batch, Shaping(False, False))
        actions = one_hot_actions(windows.actions, agent.spec.env.num_actions)
        loss, info = model.loss(level_batch(windows, 0, actions), windows.states[0], windows.targets[0])  # type: ignore[operator]
        agent.update_targets(settings.target_rate)
        return loss, info

    train([*agent.perception.parameters(), *model.parameters()], settings.learning_rate, updates, step, "level 0")


@torch.no_grad()
def perceive(agent: Agent, config: RunConfig, frames: int) -> States:
    """Level-0 states of a new walk; the images are not kept."""
    agent.eval()
    parts: list[tuple[Tensor, ...]] = []
    carry = agent.perception.initial(config.env.num_envs, torch.device("cpu"))
    for record in wander(config, frames, 1):
        task = agent.configure(record.mission)
        state, carry = agent.perceive(record.observation, record, carry, task)  # type: ignore[arg-type]
        parts.append((state, record.previous_action, record.is_first, record.truncated))
    state, previous, first, cut = (torch.stack(part, 1) for part in zip(*parts, strict=True))
    return States(state, actions_taken(previous, first), previous, first, cut)


def windows_at(
    agent: Agent, states: States, row: Tensor, start: Tensor, window: int, rows: Int[Tensor, " T"] | None = None
) -> Windows:
    """Windows of states that are known already, lifted to every level."""
    index = start[:, None] + torch.arange(window)
    stream = row[:, None]
    lowest, first, cut = states.state[stream, index], states.is_first[stream, index], states.truncated[stream, index]
    task = agent.configure(torch.zeros(index.numel(), 1, dtype=torch.int64))
    tokens = task.tokens.view(*index.shape, *task.tokens.shape[1:])
    lifted = [lowest]
    for model in agent.world_models[1:]:
        lifted.append(model.encoder(lifted[-1], tokens))  # type: ignore[operator,union-attr]
    nothing = torch.zeros(*index.shape, len(agent.spec.drives))
    steps = tuple(
        spans(first, torch.zeros_like(first), cut, nothing, level.span, level.discount) for level in agent.spec.levels
    )
    action = actions_taken(states.previous_action[stream, index], first)
    return Windows(tuple(lifted), tuple(state.detach() for state in lifted), steps, action, task, tokens)


def learn_upper(agent: Agent, config: RunConfig, states: States, updates: int, batch: int) -> None:
    """World models above level 0, on its states as they are."""
    generator = torch.Generator().manual_seed(config.train.seed)
    upper = agent.spec.levels[1:]
    window = 1 + max(level.span * model.rollout_steps for level, model in zip(upper, agent.world_models[1:], strict=True))  # type: ignore[operator]
    agent.train()

    def step(update: int) -> tuple[Tensor, Info]:
        row = torch.randint(len(states.state), (batch,), generator=generator)
        start = torch.randint(states.state.shape[1] - window, (batch,), generator=generator)
        windows = windows_at(agent, states, row, start, window)
        lower = one_hot_actions(windows.actions, agent.spec.env.num_actions)
        lower = inferred_actions(agent, level_batch(windows, 0, lower), 0)
        total, info = lower.new_zeros(()), Info()
        for level in range(1, len(agent.spec.levels)):
            part = level_batch(windows, level, lower)
            loss, terms = agent.world_models[level].loss(part, windows.states[level], windows.targets[level])  # type: ignore[operator]
            total, info = total + loss, info | named(f"level_{level}", terms)
            lower = inferred_actions(agent, part, level)
        calibrate(agent, windows)
        return total, info

    parameters = [parameter for model in agent.world_models[1:] for parameter in model.parameters()]
    train(parameters, config.train.learning_rate / 2, updates, step, "upper levels")


def learn_critic(agent: Agent, config: RunConfig, states: States, level: int, updates: int, batch: int) -> None:
    """The critic of a level, from records of whole episodes that are one step of the level apart."""
    generator = torch.Generator().manual_seed(config.train.seed + level)
    critic, span = agent.critics[level], agent.spec.levels[level].span
    length = agent.spec.env.max_steps + 1
    pairs = 64
    begins = (states.is_first[:, : states.state.shape[1] - length]).nonzero()
    agent.train()

    def step(update: int) -> tuple[Tensor, Info]:
        drawn = begins[torch.randint(len(begins), (batch,), generator=generator)]
        row, start = drawn[:, :1], drawn[:, 1:]
        # Pairs of records one step of the level apart, in the order of time.
        early = torch.randint(length - span, (batch, pairs), generator=generator).sort(1).values
        index = start + torch.stack((early, early + span), -1).flatten(1)
        state = states.state[row, index]
        task = agent.configure(torch.zeros(index.numel(), 1, dtype=torch.int64))
        tokens = task.tokens.view(*index.shape, *task.tokens.shape[1:])
        for model in agent.world_models[1 : level + 1]:
            state = model.encoder(state, tokens)  # type: ignore[operator,union-attr]
        state = state.detach()
        place = torch.arange(2 * pairs).expand(batch, -1)
        following = (place + 1).clamp_max(2 * pairs - 1)
        no = torch.zeros_like(following, dtype=torch.bool)
        part = CriticBatch(
            state, state, states.action[row, index], torch.zeros(index.shape), following, place % 2 == 0, no, tokens
        )
        loss, info = critic.loss(part, agent.target_critics[level])  # type: ignore[operator,index]
        return loss, info

    train(list(critic.parameters()), config.train.learning_rate / 2, updates, step, f"critic {level}")


__all__ = ["Spans", "States", "learn_critic", "learn_lowest", "learn_upper", "perceive", "wander"]
