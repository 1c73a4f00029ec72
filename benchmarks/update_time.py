"""Milliseconds of each phase of one update, and of one decision, on this machine.

python benchmarks/update_time.py configs/doorkey_8x8.yaml [key=value ...]
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

from hjepa.config import load
from hjepa.data.sampler import draw
from hjepa.train.learning import (
    Shaping,
    agent_loss,
    critic_loss,
    encode,
    inferred_actions,
    level_batch,
    one_hot_actions,
)
from hjepa.train.run import assemble, seeded_agent

REPEATS = 10


def milliseconds(function: Callable[[], object]) -> float:
    """Median wall time of a call, after one that does not count."""
    function()
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1000 * (perf_counter() - start))
    return sorted(times)[REPEATS // 2]


def main(arguments: list[str]) -> None:
    """Print one line a phase."""
    config = load(Path(arguments[0]), arguments[1:])
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    agent = seeded_agent(config).to(device).train()
    shaping = Shaping(config.train.critic_shapes_encoder, config.train.upper_shapes_lower)
    with tempfile.TemporaryDirectory() as folder:
        run = assemble(config, Path(folder), agent, device)
        run.collector.collect_until(1000)
        batch = draw(run.store, 0, 0, config.train.batch_size, config.train.window).to(device)
        show("draw", lambda: draw(run.store, 0, 1, config.train.batch_size, config.train.window))
        show("loss", lambda: agent_loss(agent, batch, shaping))
        show("loss and backward", lambda: agent_loss(agent, batch, shaping)[0].backward())
        windows = encode(agent, batch, shaping)
        show("  encode", lambda: encode(agent, batch, shaping))
        lower_actions = one_hot_actions(windows.actions, agent.spec.env.num_actions)
        for level in range(len(agent.spec.levels)):
            part = level_batch(windows, level, lower_actions)
            model, states = agent.world_models[level], windows.states[level]
            show(f"  world model {level}", lambda: model.loss(part, states, windows.targets[level]))  # noqa: B023
            show(f"  critic {level}", lambda: critic_loss(agent, windows, level, lower_actions, shaping))  # noqa: B023
            lower_actions = inferred_actions(agent, part, level)
        flat = tuple(state.detach().flatten(0, 1) for state in windows.states)
        show("  actor", lambda: agent.actor.loss(agent.world, flat, windows.task))
        show("moving averages", lambda: agent.update_targets(0.01))
        record, state = run.collector.record.to(device), run.collector.state
        for mode in (1, 2):
            show(f"decision of {config.env.num_envs} environments, mode {mode}", lambda: agent.act(record, state, mode))  # noqa: B023


def show(name: str, function: Callable[[], object]) -> None:
    """Print a phase's time."""
    print(f"{name:<45} {milliseconds(function):8.2f} ms", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
