"""Learning without reward, level by level: level 0 from images, then what stands on its states."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from experiments.goal_reaching.views import LAYOUTS, Views, wander
from experiments.goal_reaching.ways import Ways
from hjepa.agent import Agent
from hjepa.config import RunConfig
from hjepa.data.sampler import draw
from hjepa.data.spans import spans
from hjepa.data.store import EpisodeStore
from hjepa.train.learning import (
    Shaping,
    Windows,
    calibrate,
    choices_taken,
    encode,
    level_batch,
    one_hot_actions,
)
from hjepa.types import Info, Observation, TensorStruct, Trajectory

CHUNK = 32
"""Records looked at together for surprise."""
PAIRS = 2048
"""Pairs of views in a batch of a critic."""
TRIES = 416
"""Sequences of actions in one, the states that they are predicted to come to judged as those that they come to."""
STUBBORN = 0.3
"""Probability that a stubborn walk repeats its last action."""
AGAIN = 256
"""Windows in a batch of what stands on known states."""
SHAPING = 1024
"""Pairs of views in a batch, where the critic has a say in what is perceived."""
ROWS = 8192
"""Views that are perceived at a time."""


@dataclass(frozen=True)
class Say:
    """The critic's say in what level 0 perceives: how far it is from here to there has to be in the states."""

    views: Views
    ways: Ways
    weight: float

    def loss(self, agent: Agent, generator: torch.Generator) -> tuple[Tensor, Info]:
        """Of the critic of level 0 on views, through perception."""
        row, begin, end, steps = self.ways.shown(self.views.grid, SHAPING, generator)
        state, goal = (perceived(agent, self.views, row, at) for at in (begin, end))
        return agent.critics[0].fit(state, goal, steps, state.new_zeros(len(state), 0, 0))  # type: ignore[operator]


def perceived(agent: Agent, views: Views, row: Int[Tensor, " R"], at: Int[Tensor, " R"]) -> Float[Tensor, "R D"]:
    """Level-0 states of some records."""
    return agent.goal_state(Observation(views.images(row, at), torch.zeros(len(row), 1, dtype=torch.int64)))


@dataclass(frozen=True)
class States(TensorStruct):
    """Level-0 states of long streams, N of them."""

    state: Float[Tensor, "N T D"]
    action: Int[Tensor, "N T"]
    """Taken at each record, -1 at the end of an episode."""
    is_first: Bool[Tensor, "N T"]
    truncated: Bool[Tensor, "N T"]


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


SHOWN = ("rollout_error_1", "rollout_error_2", "rollout_error_5", "inverse_dynamics_accuracy", "std", "worst", "error",
         "imagined")  # fmt: skip


def learn_lowest(agent: Agent, config: RunConfig, frames: int, updates: int, say: Say | None = None) -> None:
    """Perception and the world model of level 0, and, if it has a say in it, the critic."""
    settings = config.train
    carry = agent.perception.initial(1, torch.device("cpu"))
    store = EpisodeStore(frames, LAYOUTS, agent.spec.env, len(agent.spec.drives), carry, Path("unused"))
    nothing = torch.zeros(LAYOUTS, len(agent.spec.drives))
    for record in wander(config, frames, 0, LAYOUTS):
        store.append(record, nothing, carry.expand(LAYOUTS, -1))
    model = agent.world_models[0]
    agent.train()

    rare: list[Tensor] = []
    generator = torch.Generator().manual_seed(settings.seed)

    def step(update: int) -> tuple[Tensor, Info]:
        if update in (update_at(updates, 0.2), update_at(updates, 0.4), update_at(updates, 0.6)):
            rare[:] = [surprising(agent, store)]
        batch = draw(store, settings.seed, update, settings.batch_size, settings.window)
        if rare:
            again = around(store, rare[0], settings.batch_size // 2, settings.window, update)
            batch = batch[settings.batch_size // 2 :].join(again)
        windows = encode(agent, batch, Shaping(False, False))
        part = level_batch(windows, 0, actions_below(agent, windows, 0))
        loss, info = model.loss(part, windows.states[0], windows.targets[0])  # type: ignore[operator]
        agent.update_targets(settings.target_rate)
        if say is not None:
            told, terms = say.loss(agent, generator)
            return loss + say.weight * told, info | terms
        return loss, info

    learned = [agent.perception, model] if say is None else [agent.perception, model, agent.critics[0]]
    train([each for part in learned for each in part.parameters()], settings.learning_rate, updates, step, "level 0")


def update_at(updates: int, share: float) -> int:
    """Number of the update after a share of all of them."""
    return round(updates * share)


@torch.no_grad()
def surprising(agent: Agent, store: EpisodeStore) -> Int[Tensor, "R 2"]:
    """Stream and number of the fiftieth of all records that level 0 predicts worst from the record before.

    What happens seldom, such as passing a gap, is learned late if ever from windows drawn at random: it is surprise
    that says where to look again (prioritised replay, Schaul et al. 2016).
    """
    errors = []
    model = agent.world_models[0]
    agent.eval()
    for start in range(store.oldest, store.written - CHUNK, CHUNK):
        every = torch.arange(store.num_envs)
        batch = store.windows(every, torch.full_like(every, start), CHUNK + 1)
        windows = encode(agent, batch, Shaping(False, False))
        action = one_hot_actions(windows.actions, agent.spec.env.num_actions) @ model.action_encoder.table()  # type: ignore[operator,union-attr]
        state = windows.states[0]
        latent = state.new_zeros(*state.shape[:-1], model.latent.dim)  # type: ignore[union-attr,arg-type]
        predicted = model.predictor(state, action, latent, windows.tokens)  # type: ignore[operator]
        error = (predicted[:, :-1] - state[:, 1:]).square().mean(-1)
        errors.append(torch.where(windows.spans[0].reaches[:, :-1], error, 0.0))
    agent.train()
    error = torch.cat(errors, 1)
    worst = error.flatten().topk(error.numel() // 50).indices
    return torch.stack((worst // error.shape[1], worst % error.shape[1] + store.oldest), 1)


def around(store: EpisodeStore, records: Int[Tensor, "R 2"], count: int, window: int, number: int) -> Trajectory:
    """Windows in which some of the records, drawn at random, lie somewhere."""
    generator = torch.Generator().manual_seed(number)
    chosen = records[torch.randint(len(records), (count,), generator=generator)]
    start = chosen[:, 1] - torch.randint(window - 1, (count,), generator=generator)
    return store.windows(chosen[:, 0], start.clamp(store.oldest, store.written - window), window)


@torch.no_grad()
def perceive(agent: Agent, views: Views) -> States:
    """Level-0 states of a walk."""
    agent.eval()
    rows, time = views.grid.shape
    row = torch.arange(rows)[:, None]
    state = torch.empty(rows, time, agent.spec.levels[0].dim)
    for start in range(0, time, max(ROWS // rows, 1)):
        at = torch.arange(start, min(start + max(ROWS // rows, 1), time)).expand(rows, -1)
        state[:, at[0]] = perceived(agent, views, row.expand_as(at).flatten(), at.flatten()).unflatten(0, at.shape)
    return States(state, views.action, views.is_first, views.truncated)


def pieces(states: States, count: int, window: int, generator: torch.Generator) -> States:
    """So many windows of the streams, drawn at random, that many records long."""
    row = torch.randint(len(states.state), (count,), generator=generator)
    start = torch.randint(states.state.shape[1] - window, (count,), generator=generator)
    index = start[:, None] + torch.arange(window)
    return states.map(lambda tensor: tensor[row[:, None], index])


@torch.no_grad()
def elsewhere(agent: Agent, seen: States) -> States:
    """Windows of which half are as level 0 imagines them: from where they began, with the actions of another.

    A search tries in every state what was done in any. A walk that knows its walls never shows what comes of running
    into them, and a level that saw nothing else imagines to go through.
    """
    model, half = agent.world_models[0], len(seen.state) // 2
    action = seen.action.roll(1, 0)[half:]
    embedded = one_hot_actions(action.clamp_min(0), agent.spec.env.num_actions) @ model.action_encoder.table()  # type: ignore[operator,union-attr]
    state = [seen.state[half:, 0]]
    for time in range(action.shape[1] - 1):
        state.append(one_ahead(agent, 0, state[-1], embedded[:, time]))
    return replace(
        seen,
        state=torch.cat((seen.state[:half], torch.stack(state, 1))),
        action=torch.cat((seen.action[:half], torch.where(seen.action[half:] >= 0, action.clamp_min(0), -1))),
    )


def windows_of(agent: Agent, seen: States) -> Windows:
    """Windows of states that are known already, lifted to every level."""
    rows, time = seen.action.shape
    task = agent.configure(torch.zeros(rows * time, 1, dtype=torch.int64))
    tokens = task.tokens.view(rows, time, *task.tokens.shape[1:])
    lifted = [seen.state]
    for model in agent.world_models[1:]:
        lifted.append(model.encoder(lifted[-1], tokens))  # type: ignore[operator,union-attr]
    nothing = torch.zeros(rows, time, len(agent.spec.drives))
    ends = (seen.is_first, torch.zeros_like(seen.is_first), seen.truncated, nothing)
    steps = tuple(spans(*ends, level.span, level.discount) for level in agent.spec.levels)
    # The last record of a window begins no step.
    action = torch.cat((seen.action[:, :-1], torch.full_like(seen.action[:, :1], -1)), 1)
    return Windows(tuple(lifted), tuple(state.detach() for state in lifted), steps, action, task, tokens)


def actions_below(agent: Agent, windows: Windows, level: int) -> Float[Tensor, "B T M"]:
    """What `level` sees of the actions below it."""
    lower = one_hot_actions(windows.actions, agent.spec.env.num_actions)
    for below in range(level):
        lower = choices_taken(agent, windows, level_batch(windows, below, lower), below).embeddings
    return lower


def learn_upper(agent: Agent, config: RunConfig, states: States, level: int, updates: int, records: int) -> None:
    """The world model of a level above 0, on the states of the levels below as they are.

    A batch is of `records` records, in windows as short as its rollouts allow, so that it is of many layouts.
    """
    generator = torch.Generator().manual_seed(config.train.seed + level)
    model = agent.world_models[level]
    rollout: int = model.rollout_steps  # type: ignore[assignment]
    window = 1 + agent.spec.levels[level].span * rollout
    batch = records // window
    agent.train()

    def step(update: int) -> tuple[Tensor, Info]:
        windows = windows_of(agent, elsewhere(agent, pieces(states, batch, window, generator)))
        part = level_batch(windows, level, actions_below(agent, windows, level))
        loss, info = model.loss(part, windows.states[level], windows.targets[level])  # type: ignore[operator]
        calibrate(agent, windows)
        return loss, info

    # Levels below are used as they are: their macro-actions stay what they mean.
    for below in agent.world_models[:level]:
        below.eval()
    train(list(model.parameters()), config.train.learning_rate, updates, step, f"level {level}")


def learn_stubbornness(agent: Agent, config: RunConfig, states: States, updates: int) -> None:
    """The world model of level 0 once more, on a walk that often does the same again, whatever came of it.

    A curious walk runs into a wall once; a search that does so five times in its mind, with a model that never
    saw it, drifts through. What the levels perceive stays as it is.
    """
    generator = torch.Generator().manual_seed(config.train.seed)
    model = agent.world_models[0]
    rollout: int = model.rollout_steps  # type: ignore[assignment]
    agent.train()

    def step(update: int) -> tuple[Tensor, Info]:
        windows = windows_of(agent, pieces(states, AGAIN, 1 + rollout, generator))
        part = level_batch(windows, 0, actions_below(agent, windows, 0))
        return model.loss(part, windows.states[0], windows.targets[0])  # type: ignore[operator]

    train(list(model.parameters()), config.train.learning_rate, updates, step, "level 0 again")


@torch.no_grad()
def imagined(
    agent: Agent, state: Float[Tensor, "R D"], action: Int[Tensor, "R L"], level: int
) -> tuple[list[Float[Tensor, "R D"]], list[int]]:
    """States, in the space of `level`, that actions are predicted to come to, and after how many of them: what a search
    asks the critic about.

    As the level below rolls out to them, and at level 0 that level itself; above it also by a step of the level.
    """
    below = max(level - 1, 0)
    span, own_span = (agent.spec.levels[number].span for number in (below, level))
    windows = windows_of(agent, as_states(state, action))
    steps, way = actions_below(agent, windows, below + 1), [windows.states[below][:, 0]]
    ends = list(range(span, action.shape[1] + 1, span))
    for end in ends:
        way.append(one_ahead(agent, below, way[-1], steps[:, end - span]))
    if level == 0:
        return way[1:], ends
    nothing = state.new_zeros(len(state), 0, 0)
    rolled = [agent.world_models[level].encoder(reached, nothing) for reached in way[1:]]  # type: ignore[operator]
    own = actions_below(agent, windows, level + 1)[:, 0]
    return [*rolled, one_ahead(agent, level, windows.states[level][:, 0], own)], [*ends, own_span]


def as_states(state: Float[Tensor, "R D"], action: Int[Tensor, "R L"]) -> States:
    """Windows of actions whose states are not known but for the first, which stands for all."""
    rows, length = action.shape
    nowhere = torch.zeros(rows, length + 1, dtype=torch.bool)
    actions = torch.cat((action, torch.full_like(action[:, :1], -1)), 1)
    return States(state[:, None].expand(-1, length + 1, -1), actions, nowhere, nowhere)


def one_ahead(
    agent: Agent, level: int, state: Float[Tensor, "B D"], action: Float[Tensor, "B M"]
) -> Float[Tensor, "B D"]:
    """Where an action of `level` leads from a state, as its world model has it."""
    nothing = state.new_zeros(len(state), 0)
    return agent.world_models[level].predictor(state, action, nothing, nothing[:, None])  # type: ignore[operator]


def learn_critic(agent: Agent, config: RunConfig, states: States, ways: Ways, level: int, updates: int) -> None:
    """The critic of a level: the fewest of its steps from where the agent is to where another view of the walk has it,
    along what was walked there; and as many from what is predicted, wherever it is that actions come to.

    What they come to is known from the walk, which tried nearly all of them everywhere. A search finds the predictions
    that a critic misreads: states that are nearer to the right one than to any other, and that it has many steps nearer
    to the goal. So it is predictions as well that it has to learn from.
    """
    generator = torch.Generator().manual_seed(config.train.seed + level)
    critic, levels = agent.critics[level], agent.spec.levels
    span = levels[level].span
    length = span if level > 0 else levels[0].horizon
    agent.eval()

    def told(
        state: Float[Tensor, "R D"], goal: Float[Tensor, "R D"], steps: Float[Tensor, " R"]
    ) -> tuple[Tensor, Info]:
        return critic.fit(state, goal, steps / span, state.new_zeros(len(state), 0, 0))  # type: ignore[operator]

    def step(update: int) -> tuple[Tensor, Info]:
        row, begin, end, steps = ways.pairs(PAIRS, generator)
        state, goal = (lifted(agent, states.state[row, at], level) for at in (begin, end))
        loss, info = told(state, goal, steps)
        tries = ways.tries(TRIES, length, generator)
        predicted, ends = imagined(agent, states.state[tries.row, tries.begin], tries.action, level)
        goal = lifted(agent, states.state[tries.row, tries.goal], level)
        steps, known = (torch.cat([each[:, end - 1] for end in ends]) for each in (tries.steps, tries.known))
        imagined_loss, terms = told(torch.cat(predicted)[known], goal.repeat(len(ends), 1)[known], steps[known])
        return loss + imagined_loss, info | {"imagined": terms["error"]}

    train(list(critic.parameters()), config.train.learning_rate, updates, step, f"critic {level}")


def lifted(agent: Agent, state: Float[Tensor, "B D"], level: int) -> Float[Tensor, "B Dl"]:
    """Level-0 states in the space of another level."""
    with torch.no_grad():
        return agent.lift(state, state.new_zeros(len(state), 0, 0))[level]
