"""Which environments there are, and what the agent is told of one before it starts."""

import contextlib
import copy
import difflib
import io
from typing import Any

import gymnasium
import minigrid  # noqa: F401  (registers MiniGrid-* and BabyAI-*)
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from hjepa.config import ConfigError
from hjepa.envs import dummy, full_view
from hjepa.types import EnvSpec

dummy.register()
full_view.register()

LIMIT_SEEDS = 8
"""Resets over which the time limit is read where an environment sets it anew for every mission (BabyAI)."""


def env_ids() -> list[str]:
    """Every id that comes with the package: MiniGrid's, BabyAI's and the dummy."""
    prefixes = ("MiniGrid-", "BabyAI-", "hjepa/")
    return sorted(name for name in gymnasium.registry if name.startswith(prefixes))


def check_env_id(name: str) -> None:
    """Raise ConfigError with the nearest ids unless `name` is registered with gymnasium.

    Ids of the form `module:Name-v0`, which would make gymnasium import a module, are refused: an id may come
    from a checkpoint, and data must not choose what code is imported.
    """
    if name in gymnasium.registry and ":" not in name:
        return
    known = {candidate.lower(): candidate for candidate in env_ids()}
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(known[match] for match in near)}" if near else "see `MiniGrid-*`, `BabyAI-*`"
    raise ConfigError(f"env: no environment of this name (got {name!r}); {hint}")


def make_env(name: str) -> gymnasium.Env[Any, int]:
    """Make an environment without gymnasium's run-time checkers, which cost time at every step.

    Raises ConfigError for an unknown id, a missing optional dependency, and an environment that is not
    MiniGrid-like.
    """
    check_env_id(name)
    spec = copy.deepcopy(gymnasium.spec(name))
    spec.order_enforce = False
    try:
        env = gymnasium.make(spec, disable_env_checker=True)
    except DependencyNotInstalled as error:
        raise ConfigError(f"env: {name} cannot be made: {error}") from error
    read_spaces(name, env)
    return env


def quiet_reset(env: gymnasium.Env[Any, int], seed: int) -> dict[str, Any]:
    """Reset, and return the observation; what BabyAI prints about layouts it rejects is swallowed."""
    with contextlib.redirect_stdout(io.StringIO()):
        observation, _ = env.reset(seed=seed)
    return observation


def read_spaces(name: str, env: gymnasium.Env[Any, Any]) -> tuple[tuple[int, int], int]:
    """The view's columns and rows, and the number of actions.

    Raises ConfigError unless there are a uint8 image [W, V, 3], a mission, and actions numbered from 0.
    """
    observation, action = env.observation_space, env.action_space
    parts = observation.spaces if isinstance(observation, spaces.Dict) else {}
    if "mission" in parts and isinstance(action, spaces.Discrete) and action.start == 0:
        match parts.get("image"):
            case spaces.Box(dtype=np.dtype(kind="u", itemsize=1), shape=(columns, rows, 3)):
                return (columns, rows), int(action.n)
    raise ConfigError(
        f"env: {name} is not a MiniGrid environment: needed are a uint8 image [W, V, 3], a mission and "
        f"actions numbered from 0 (got observations {observation} and actions {action})"
    )


def env_spec(name: str) -> EnvSpec:
    """What the agent is told of environment `name`. Raises ConfigError as `make_env` does.

    BabyAI draws the time limit with the mission; then `max_steps` is the longest of the first `LIMIT_SEEDS`
    seeds.
    """
    env = make_env(name)
    try:
        quiet_reset(env, seed=0)
        view, actions = read_spaces(name, env)
        return EnvSpec(name, actions, view, time_limit(name, env))
    except DependencyNotInstalled as error:
        raise ConfigError(f"env: {name} cannot be reset: {error}") from error
    finally:
        env.close()


def time_limit(name: str, env: gymnasium.Env[Any, Any]) -> int:
    """Environment steps after which an episode is cut off; ConfigError where nothing says so."""
    own = getattr(env.unwrapped, "max_steps", 0)
    if not getattr(env.unwrapped, "fixed_max_steps", True):
        for seed in range(1, LIMIT_SEEDS):
            quiet_reset(env, seed)
            own = max(own, getattr(env.unwrapped, "max_steps", 0))
    outer = env.spec.max_episode_steps if env.spec else None
    limits = [limit for limit in (own, outer) if limit]
    if not limits:
        raise ConfigError(f"env: {name} has no time limit (`max_steps`)")
    return min(limits)
