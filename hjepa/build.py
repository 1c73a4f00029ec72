"""From a run's config and an environment's spec to an agent, with a dry run that checks the shapes between modules."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch

from hjepa.agent import Agent
from hjepa.config import ConfigError, ModuleConfig, RunConfig, number_repeats
from hjepa.config.registry import load_class
from hjepa.interfaces import Actor
from hjepa.types import AgentSpec, EnvSpec, LevelSpec, Observation

LOWEST = {"encoder": "identity", "action_encoder": "discrete"}
"""Level 0 takes perception's state as it is, and its choices are the environment's actions."""


def build_agent(config: RunConfig, env: EnvSpec) -> Agent:
    """Build every module from its own config. Raises ConfigError where two do not fit together.

    The initial weights of a module are drawn by torch's seed and the module's place in the agent: to add a level or to
    swap a module leaves all others as they were, so that two agents of a seed differ in nothing else.
    """
    seed = _drawn_seed()
    spec = agent_spec(config, env)
    world_models, specs = [], []
    for level, model_spec in zip(config.levels, spec.levels, strict=True):
        model_config = at_level(level.world_model or config.world_model, model_spec)
        model = build_at(f"world_model {model_spec.index}", seed, model_config, model_spec)
        world_models.append(model)
        specs.append(replace(model_spec, num_actions=model.action_encoder.num_actions))
    spec = replace(spec, levels=tuple(specs))
    critics = [level.critic or config.critic for level in config.levels]
    agent = Agent(
        spec,
        build_at("configurator", seed, config.configurator, spec),
        build_at("perception", seed, config.perception, spec),
        world_models,
        build_at("intrinsic_cost", seed, config.intrinsic_cost, spec),
        [build_at(f"critic {one.index}", seed, critic, one) for critic, one in zip(critics, specs, strict=True)],
        build_at("memory", seed, config.memory, spec),
        build_actor(config, spec, seed),
    )
    handshake(agent)
    return agent


def agent_spec(config: RunConfig, env: EnvSpec) -> AgentSpec:
    """Widths and spans of every level, from the config alone."""
    # Which fields a slot's config has is known to its kind alone.
    intrinsic_cost: Any = config.intrinsic_cost
    configurator: Any = config.configurator
    drives = intrinsic_cost.drives
    names = number_repeats([drive.kind for drive in drives])
    token_dim = configurator.token_dim
    levels = []
    for index, level in enumerate(config.levels):
        below = config.levels[max(index - 1, 0)]
        levels.append(
            LevelSpec(
                index=index,
                dim=level.dim,
                action_dim=level.action_dim,
                lower_dim=below.dim,
                lower_action_dim=below.action_dim if index > 0 else env.num_actions,
                stride=level.stride,
                span=prod(one.stride for one in config.levels[: index + 1]),
                horizon=level.horizon,
                num_env_actions=env.num_actions,
                num_actions=0,
                upper_dim=config.levels[min(index + 1, len(config.levels) - 1)].dim,
                num_drives=len(names),
                token_dim=token_dim,
                discount=config.discount,
            )
        )
    guardrails = tuple(bool(load_class("drive", drive.kind).guardrail) for drive in drives)
    return AgentSpec(env, tuple(levels), names, guardrails, token_dim, config.discount)


def build_actor(config: RunConfig, spec: AgentSpec, seed: int) -> Actor:
    """The actor, with a planner and a policy for every level."""
    searches = zip(config.levels, spec.levels, strict=True)
    planners = [build_at(f"planner {one.index}", seed, level.planner, one) for level, one in searches]
    actor: Any = config.actor
    policies = [build_at(f"policy {one.index}", seed, actor.policy, one) for one in spec.levels]
    with _own_draws("actor", seed):
        return assemble(config.actor, spec, {"planners": planners, "policies": policies})


def build_at(place: str, seed: int, config: ModuleConfig, spec: AgentSpec | LevelSpec) -> Any:
    """Build a module with the draws of its place."""
    with _own_draws(place, seed):
        return build_module(config, spec)


def at_level(config: ModuleConfig, spec: LevelSpec) -> ModuleConfig:
    """A world model's config as it holds at this level."""
    if spec.index > 0:
        return config
    return config.model_copy(update={slot: load_class(slot, kind).Config() for slot, kind in LOWEST.items()})


def build_module(config: ModuleConfig, spec: AgentSpec | LevelSpec) -> Any:
    """Build a module and, first, the modules in its sub-slots, which it gets by the names of its config's fields."""
    seed, parts = _drawn_seed(), {}
    for name, value in config:
        if is_part(value):
            with _own_draws(name, seed):
                parts[name] = build_part(value, spec)
    with _own_draws("", seed):
        return assemble(config, spec, parts)


def _drawn_seed() -> int:
    return int(torch.randint(2**31, ()))


@contextmanager
def _own_draws(place: str, seed: int) -> Iterator[None]:
    """Let torch draw by `seed` and `place` inside, and go on as if nothing had been drawn after it. On the CPU, where
    modules are built."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(zlib.crc32(f"{seed} {place}".encode()))
        yield


def assemble(
    config: ModuleConfig,
    spec: AgentSpec | LevelSpec,
    parts: dict[str, object],
) -> Any:
    """Call a module's constructor; a ValueError in it is the user's mistake."""
    cls = load_class(config.slot, config.kind)
    # Configs are read without torch, from a cut-down copy of the file; the module gets its own class of the same
    # values.
    own = cls.Config.model_construct(**dict(config))
    try:
        return cls(own, spec, **parts)
    except ValueError as error:
        raise ConfigError(f"{config.slot}.{config.kind}: {error}") from error


def build_part(value: ModuleConfig | tuple[ModuleConfig, ...], spec: AgentSpec | LevelSpec) -> object:
    """A sub-slot's module, or the list of them."""
    if isinstance(value, ModuleConfig):
        return build_module(value, spec)
    return [build_module(item, spec) for item in value]


def is_part(value: object) -> bool:
    """Whether a config field holds a module, or several."""
    return isinstance(value, ModuleConfig) or (
        isinstance(value, tuple) and bool(value) and all(isinstance(item, ModuleConfig) for item in value)
    )


@torch.no_grad()
def handshake(agent: Agent) -> None:
    """Perceive and lift one blank observation; raises ConfigError naming the first width that does not fit."""
    spec, device = agent.spec, torch.device("cpu")
    columns, rows = spec.env.view
    mission = torch.zeros(2, 1, dtype=torch.int64)
    observation = Observation(torch.zeros(2, columns, rows, 3, dtype=torch.uint8), mission)
    task = agent.configure(mission)
    first = torch.full((2,), -1)
    state, _ = agent.perception(observation, first, agent.perception.initial(2, device), task.tokens)
    check_width("perception", state, spec.levels[0].dim)
    for level, lifted in zip(spec.levels, agent.lift(state, task.tokens), strict=True):
        check_width(f"levels.{level.index}.world_model.encoder", lifted, level.dim)
        model = agent.world_models[level.index]
        table = model.action_encoder.table()  # type: ignore[operator,union-attr]
        check_width(f"levels.{level.index}.world_model.action_encoder", table, level.action_dim)


def check_width(where: str, tensor: torch.Tensor, width: int) -> None:
    """Raise ConfigError where a module's output has another width than its level."""
    if tensor.shape[-1] != width:
        raise ConfigError(f"{where}: gives a width of {tensor.shape[-1]}, the level expects {width}")
