"""Tiny agents from the debug preset, on the chain of three cells, for the tests of whole agents."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hjepa.agent import Agent, AgentState, Mode
from hjepa.config import RunConfig, load
from hjepa.data.sampler import draw
from hjepa.envs.vector import Record, VectorEnv
from hjepa.train.learning import Shaping, agent_loss
from hjepa.train.run import assemble, seeded_agent
from hjepa.train.seeding import seed_everything_at
from hjepa.train.state import RunState
from hjepa.types import Decision, Info, Trajectory

DEBUG = Path(__file__).parent.parent / "configs" / "debug.yaml"
DUMMY = "hjepa/Dummy-v0"
CPU = torch.device("cpu")
SHAPING = Shaping(critic_shapes_encoder=True, upper_shapes_lower=False)
WIDTHS = (16, 12, 8)
STRIDES = (1, 2, 3)


def tiny_config(levels: int = 2, *overrides: str) -> RunConfig:
    """The debug preset on the chain; level l has width `WIDTHS[l]` and spans prod(STRIDES[: l + 1]) steps."""
    listed = ", ".join(
        f"{{dim: {dim}, action_dim: 4, stride: {stride}, horizon: 2, planner: {{kind: exhaustive}}}}"
        for dim, stride in zip(WIDTHS[:levels], STRIDES[:levels], strict=True)
    )
    return load(DEBUG, [f"env.id={DUMMY}", f"levels=[{listed}]", "train.accelerator=cpu", *overrides])


def tiny_agent(levels: int = 2, *overrides: str) -> Agent:
    """An untrained agent in evaluation mode, always the same; subgoal weights are in units of energy."""
    agent = seeded_agent(tiny_config(levels, *overrides)).eval()
    agent.actor.energy_unit.fill_(1.0)
    return agent


def tiny_run(config: RunConfig, folder: Path, frames: int = 100, agent: Agent | None = None) -> RunState:
    """Agent, environments and a store with some experience."""
    run = assemble(config, folder / "run", (agent or seeded_agent(config)).train(), CPU)
    run.collector.collect_until(frames)
    return run


def batch_of(run: RunState, config: RunConfig, number: int = 0) -> Trajectory:
    """The training batch of an update."""
    train = config.train
    return draw(run.store, train.seed, number, train.batch_size, train.window, train.terminal_share)


def updates(agent: Agent, batches: list[Trajectory], rate: float = 1e-3) -> list[Info]:
    """One optimiser step a batch, as in training; the terms of each loss."""
    learning = [parameter for parameter in agent.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=rate)
    infos = []
    for number, batch in enumerate(batches):
        seed_everything_at(0, "update", number)
        optimiser.zero_grad()
        loss, info = agent_loss(agent, batch, SHAPING)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 10.0)
        optimiser.step()
        agent.update_targets(0.05)
        infos.append(info | {"total": loss.detach()})
    return infos


def first_record(rows: int = 3, env: str = DUMMY) -> Record:
    """What `rows` fresh environments show."""
    vector = VectorEnv(env, rows, lambda row, episode: 100 * row + episode)
    return vector.step(torch.zeros(rows, dtype=torch.int64))


def play(
    agent: Agent, steps: int, mode: Mode, rows: int = 3, epsilon: float = 0.0, env: str = DUMMY
) -> list[tuple[Record, Decision, AgentState]]:
    """Act for some steps: each record, what was decided on it, and the agent's state after it."""
    torch.manual_seed(0)
    vector = VectorEnv(env, rows, lambda row, episode: 100 * row + episode)
    state, action, happened = agent.initial(rows, CPU), torch.zeros(rows, dtype=torch.int64), []
    for _ in range(steps):
        record = vector.step(action)
        decision, state = agent.act(record, state, mode, epsilon)
        action = decision.action
        happened.append((record, decision, state))
    return happened


@contextmanager
def calls(agent: Agent) -> Iterator[list[str]]:
    """Names of the agent's parts in the order in which they are called, as they return."""
    log: list[str] = []
    with torch.random.fork_rng(devices=[]):
        undo = [spy(owner, method, name, log) for name, owner, method in parts(agent)]
        try:
            yield log
        finally:
            for restore in undo:
                restore()


def parts(agent: Agent) -> list[tuple[str, object, str]]:
    """Every part with a name, and its method that does the work."""
    found: list[tuple[str, object, str]] = [
        ("configurator", agent.configurator, "forward"),
        ("perception", agent.perception, "forward"),
        ("decide", agent.actor, "decide"),
        ("perceived", agent.intrinsic_cost, "perceived"),
        ("predicted", agent.intrinsic_cost, "predicted"),
        ("write", agent.memory, "write"),
    ]
    for level, model in enumerate(agent.world_models):
        found += [(f"predict {level}", model, "predict"), (f"encoder {level}", model.encoder, "forward")]
        found += [(f"critic {level}", agent.critics[level], "forward")]
        found += [(f"critic {level}", agent.critics[level], "choices")]
        found += [(f"policy {level}", agent.actor.policies[level], "forward")]
        found += [(f"planner {level}", agent.actor.planners[level], "plan")]
    return found


def spy(owner, method: str, name: str, log: list[str]):
    """Have a method note its name when it returns; gives the function that undoes it."""
    original = getattr(owner, method)

    def noting(*arguments, **named):
        result = original(*arguments, **named)
        log.append(name)
        return result

    setattr(owner, method, noting)
    return lambda: delattr(owner, method)
