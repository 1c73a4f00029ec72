"""What is checked before torch is imported, so that a mistake is told at once."""

import difflib
from pathlib import Path

from hjepa.config import ConfigError, RunConfig

FAMILIES = ("MiniGrid-", "BabyAI-")
OWN = "hjepa/"
"""The package's own environments, which are registered with the rest of it."""


def check(config: RunConfig) -> Path:
    """The run folder to make. ConfigError where it exists, or the environment is not what the agent needs."""
    run_dir = Path(config.run.dir)
    try:
        exists = run_dir.exists()
    except OSError as error:
        raise ConfigError(f"run.dir: {error.strerror} (got {config.run.dir!r})") from error
    if exists:
        raise ConfigError(
            f"run.dir: exists (got {run_dir}); go on with `hjepa train --resume {run_dir}`, or name another"
        )
    check_env(config.env.id)
    return run_dir


def check_env(name: str) -> None:
    """ConfigError unless `name` is a registered environment with MiniGrid's observations."""
    if name.startswith(OWN):
        return
    import gymnasium
    import minigrid  # noqa: F401  (registers MiniGrid-* and BabyAI-*)

    known = [one for one in gymnasium.registry if one.startswith(FAMILIES)]
    if name in known:
        return
    if name not in gymnasium.registry:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; MiniGrid-* and BabyAI-* are there"
        raise ConfigError(f"env.id: no environment of this name (got {name!r}){hint}")
    try:
        space = gymnasium.make(name).observation_space
    except Exception as error:  # whatever a foreign environment raises
        raise ConfigError(f"env.id: {name} cannot be made ({' '.join(str(error).split())[:200]})") from error
    if not (isinstance(space, gymnasium.spaces.Dict) and {"image", "mission"} <= set(space.spaces)):
        raise ConfigError(f"env.id: not a MiniGrid environment, which shows an image and a mission (got {name!r})")
