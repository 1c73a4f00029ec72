"""PPO of stable-baselines3 on the layouts that hjepa trains on, evaluated on the layouts that it is evaluated on.

python -m experiments.ppo_baseline.run --env MiniGrid-DoorKey-8x8-v0 --frames 400000 --seed 0
python -m experiments.ppo_baseline.run --table
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

from experiments.common import command_line, guarded, markdown, write_readme
from experiments.ppo_baseline.results import COLUMNS, Result, origin, play, read, save
from hjepa.config import ConfigError
from hjepa.envs.make import env_spec
from hjepa.train.hardware import hardware
from hjepa.train.run import commit

LIBRARIES = ("stable-baselines3", "torch", "minigrid")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and evaluate one run, or show what the runs came to; returns the exit status."""
    made = parser()
    given = made.parse_args(arguments)
    if given.table:
        return show(given.runs, given.publish)
    if find_spec("stable_baselines3") is None:
        raise ConfigError("stable-baselines3 is not installed: pip install 'hjepa[baselines]', or -e '.[baselines]'")
    env_spec(given.env)
    folder = given.runs / f"{given.env.replace('/', '-')}_seed{given.seed}"
    if folder.exists():
        raise ConfigError(f"{folder} exists; remove it, or name another place with --runs")
    save(train(given, folder, command_line(made, arguments)), folder)
    return show(given.runs, publish=False)


def train(given: argparse.Namespace, folder: Path, command: str) -> Result:
    """Train into a new folder, and play the held-out layouts."""
    from experiments.ppo_baseline.learner import PPOAgent, learn

    torch.set_num_threads(given.threads)
    folder.mkdir(parents=True)
    model, report = learn(given.env, given.frames, given.seed, given.seconds, folder)
    return Result(
        env=given.env,
        seed=given.seed,
        frames=model.num_timesteps,
        seconds=report.seconds,
        frames_to_90=report.frames_to_learned,
        seconds_to_90=report.seconds_to_learned,
        episodes=given.episodes,
        suite_seed=given.suite_seed,
        greedy=play(PPOAgent(model, greedy=True), given.env, given.suite_seed, given.episodes),
        sampled=play(PPOAgent(model, greedy=False), given.env, given.suite_seed, given.episodes),
        hardware=hardware(),
        libraries=", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES),
        commit=commit(),
        command=command,
    )


def show(runs: Path, publish: bool) -> int:
    """Print the results of all runs as a markdown table; publishing writes them into this study's README too."""
    results = read(runs)
    table = markdown(results, COLUMNS)
    print(table)
    if publish:
        write_readme(Path(__file__).parent, table, origin(results))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m experiments.ppo_baseline.run", description=(__doc__ or "").split("\n")[0]
    )
    made.add_argument("--env", default="MiniGrid-DoorKey-5x5-v0", metavar="ID", help="environment (%(default)s)")
    made.add_argument("--frames", type=positive, default=100_000, metavar="N", help="frames to train for (%(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of weights, layouts and actions (%(default)s)")
    made.add_argument("--seconds", type=float, metavar="LIMIT", help="stop training after so much wall time")
    made.add_argument("--episodes", type=positive, default=200, metavar="N", help="held-out episodes (%(default)s)")
    made.add_argument("--suite-seed", type=int, default=0, metavar="S", help="which held-out layouts (%(default)s)")
    made.add_argument("--threads", type=positive, default=1, metavar="N", help="threads of torch (%(default)s)")
    made.add_argument(
        "--runs", type=Path, default=Path("runs/ppo_baseline"), metavar="DIR", help="folder of the runs (%(default)s)"
    )
    made.add_argument("--table", action="store_true", help="train nothing, show the results there are")
    made.add_argument("--publish", action="store_true", help="with --table: write it into the study's README")
    return made


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return value


if __name__ == "__main__":
    sys.exit(guarded(main))
