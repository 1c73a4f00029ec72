"""Times the parts of the agent: phases of an update, whole updates, and decisions. All times are wall times.

Uses what training itself uses (`hjepa.train`), so that a change there is measured without a change here.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hjepa.agent import Agent, Mode
from hjepa.config import RunConfig, load
from hjepa.config.settings import TrainConfig
from hjepa.data.sampler import draw
from hjepa.envs.seeds import held_out_seed
from hjepa.envs.vector import VectorEnv
from hjepa.eval.rollout import device_of, undisturbed
from hjepa.log.metrics import read_metrics
from hjepa.train.learning import (
    Shaping,
    agent_loss,
    choices_taken,
    critic_batch,
    critic_loss,
    encode,
    level_batch,
    one_hot_actions,
    walked_to,
)
from hjepa.train.run import assemble, lightning_module, seeded_agent, train
from hjepa.types import Trajectory

WARM_UP = 3
"""Calls that do not count."""
ROUND_UPDATES = 25
"""Updates between two readings of a training run's speed."""
ADDED_STRIDE = 2
"""Of levels above those of the config, which are else like its highest."""
QUIET = ["eval.every=0", *(f"log.{name}_every=0" for name in ("strips", "prediction", "critic", "probes", "projector"))]

Level = dict[str, Any]
"""One level of a config, as it is written in YAML."""


@dataclass(frozen=True)
class Setting:
    """A config, where and how it is run."""

    path: Path
    overrides: tuple[str, ...]
    device: torch.device
    bfloat16: bool
    compiled: bool

    def config(self, levels: list[Level], *more: str) -> RunConfig:
        """The config with these levels. ConfigError where they do not fit."""
        # What the overrides say of the levels is in them already.
        rest = [one for one in self.overrides if one.partition("=")[0].partition(".")[0] != "levels"]
        return load(self.path, [*rest, *QUIET, f"levels={json.dumps(levels)}", *more])

    def levels(self, count: int) -> list[Level]:
        """The lowest levels of the config, and more above them where it has fewer than `count`."""
        levels = [level.model_dump(mode="json") for level in load(self.path, self.overrides).levels[:count]]
        return levels + [levels[-1] | {"stride": ADDED_STRIDE} for _ in range(count - len(levels))]

    def agent(self, config: RunConfig) -> Agent:
        """The agent with its initial weights, on the device."""
        agent = seeded_agent(config).to(self.device)
        if self.compiled:
            agent.perception.compile()
        return agent

    def autocast(self) -> torch.autocast:
        """Number formats of the update."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


@dataclass(frozen=True)
class Acting:
    """What came of acting for a while."""

    decision_ms: list[float]
    """Of each decision, for all environments together."""
    step_ms: list[float]
    """Of each step of all environments."""
    evaluations: float
    """Predictor evaluations a decision of one environment, mean."""


@dataclass(frozen=True)
class Training:
    """Speed of a training run, logging of scalars included."""

    updates_per_second: float
    frames_per_second: float


def milliseconds(
    function: Callable[..., object], repeats: int, device: torch.device, prepare: Callable[[], object] | None = None
) -> float:
    """Median time of a call, after a few that do not count; it gets what `prepare`, which is not timed, returns."""
    times = []
    for _ in range(WARM_UP + repeats):
        given = () if prepare is None else (prepare(),)
        begin = now(device)
        function(*given)
        times.append(1000 * (now(device) - begin))
    return median(times[WARM_UP:])


def now(device: torch.device) -> float:
    """Seconds, after all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def act(agent: Agent, env_id: str, batch: int, mode: Mode, decisions: int) -> Acting:
    """Act in `batch` environments on held-out layouts, and time every decision and step."""
    env = VectorEnv(env_id, batch, lambda row, episode: held_out_seed(0, row + episode * batch))
    device = device_of(agent)
    decision_ms, step_ms, evaluations = [], [], []
    try:
        with undisturbed(agent, 0):
            state = agent.initial(batch, device)
            record = env.step(torch.zeros(batch, dtype=torch.int64))
            for _ in range(WARM_UP + decisions):
                begin = now(device)
                decision, state = agent.act(record.to(device), state, mode)
                action = decision.action.cpu()
                decided = now(device)
                record = env.step(action)
                decision_ms.append(1000 * (decided - begin))
                step_ms.append(1000 * (perf_counter() - decided))
                evaluations.append(int(decision.evaluations) / batch)
    finally:
        env.close()
    return Acting(decision_ms[WARM_UP:], step_ms[WARM_UP:], mean(evaluations[WARM_UP:]))


def phases(setting: Setting, config: RunConfig, repeats: int, decisions: int) -> dict[str, float]:
    """Milliseconds of each phase of an update; acting and stepping are those of one step of all environments."""
    agent, device, settings = setting.agent(config), setting.device, config.train
    with tempfile.TemporaryDirectory() as folder, setting.autocast():
        acting = act(agent, config.env.id, config.env.num_envs, settings.collect_mode, decisions)
        run = assemble(config, Path(folder), agent.train(), device)
        run.collector.collect_until(settings.prefill)
        module = lightning_module(config, run, updates=1)
        optimizer = module.configure_optimizers()

        def sample() -> Trajectory:
            arguments = (settings.batch_size, settings.window, settings.terminal_share)
            return draw(run.store, settings.seed, 0, *arguments).to(device)

        batch = sample()

        def loss() -> Tensor:
            return agent_loss(agent, batch, module.shaping)[0]

        times = {"act": median(acting.decision_ms), "environment step": median(acting.step_ms)}
        forward = {"sample": sample} | parts_of_loss(agent, batch, module.shaping)
        times |= {name: milliseconds(part, repeats, device) for name, part in forward.items()}
        times["backward"] = milliseconds(lambda total: total.backward(), repeats, device, loss)
        update = partial(optimise, agent, optimizer, settings)
        times["optimiser"] = milliseconds(update, repeats, device, lambda: loss().backward())
        run.env.close()
    return times


def parts_of_loss(agent: Agent, batch: Trajectory, shaping: Shaping) -> dict[str, Callable[[], object]]:
    """The forward parts of the loss, all levels together."""
    windows = encode(agent, batch, shaping)
    lower = one_hot_actions(windows.actions, agent.spec.env.num_actions)
    given, walked = [], []
    for level in range(len(agent.spec.levels)):
        part = level_batch(windows, level, lower)
        taken = choices_taken(agent, windows, part, level)
        steps = critic_batch(windows, level, taken.indices, shaping)
        given.append((level, part, lower, steps))
        if agent.actor.learns_in_hindsight:
            walked.append(walked_to(agent, windows, level, steps))
        lower = taken.embeddings
    flat = tuple(state.detach().flatten(0, 1) for state in windows.states)
    models = agent.world.world_models
    return {
        "encode": lambda: encode(agent, batch, shaping),
        "roll out": lambda: [models[n].loss(part, windows.states[n], windows.targets[n]) for n, part, _, _ in given],
        "critic": lambda: [critic_loss(agent, windows, n, steps, actions) for n, _, actions, steps in given],
        "actor": lambda: agent.actor.loss(agent.world, flat, windows.task, tuple(walked)),
    }


def optimise(agent: Agent, optimizer: torch.optim.Optimizer, settings: TrainConfig, gradients: None) -> None:
    """Clip, step and move the averages, as `hjepa.train.module` does, once the gradients are there."""
    torch.nn.utils.clip_grad_norm_(agent.parameters(), settings.gradient_clip)
    optimizer.step()
    optimizer.zero_grad()
    agent.update_targets(settings.target_rate)


def training_speed(setting: Setting, levels: list[Level], rounds: int) -> Training:
    """Speed of a real training run, median over `rounds` of 25 updates; the first, which warms up, does not count."""
    plain = setting.config(levels)
    frames = plain.train.prefill + (rounds + 1) * ROUND_UPDATES * plain.train.frames_per_update
    how = [
        f"train.accelerator={'gpu' if setting.device.type == 'cuda' else 'cpu'}",
        f"train.precision={'bf16-mixed' if setting.bfloat16 else '32-true'}",
        f"train.compile={str(setting.compiled).lower()}",
        f"train.threads={torch.get_num_threads()}",
        f"log.every={ROUND_UPDATES}",
        f"train.frames={frames}",
        f"train.checkpoint_every={2 * frames}",
    ]
    with tempfile.TemporaryDirectory() as parent, said_on_standard_error():
        folder = Path(parent) / "run"
        train(setting.config(levels, f"run.dir={folder}", *how), folder)
        speed = median(read_metrics(folder / "metrics.csv")["speed/frames_per_second"].values[1:])
    return Training(float(speed) / plain.train.frames_per_update, float(speed))


@contextlib.contextmanager
def said_on_standard_error() -> Iterator[None]:
    """What a run prints is no part of the tables."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
