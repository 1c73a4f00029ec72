"""Goal reaching without reward: an agent learns how rooms work, is shown a view, and goes there.

python -m experiments.goal_reaching.run --publish, or with goal_reaching_doors in its place
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from experiments.common import command_line, guarded
from experiments.goal_reaching.learn import (
    CHUNK,
    STUBBORN,
    Say,
    States,
    learn_critic,
    learn_lowest,
    learn_stubbornness,
    learn_upper,
    perceive,
)
from experiments.goal_reaching.play import Row, planning_as, play
from experiments.goal_reaching.results import publish
from experiments.goal_reaching.tasks import make_tasks
from experiments.goal_reaching.views import LAYOUTS, Views, look
from experiments.goal_reaching.ways import Ways
from hjepa.agent import Agent
from hjepa.build import build_agent
from hjepa.config import ConfigError, RunConfig, dump, load
from hjepa.data import checkpoint
from hjepa.envs.make import env_spec
from hjepa.train.run import commit

CONFIG = "config.yaml"


def cem(level: int, horizon: int, population: int) -> tuple[str, ...]:
    """Settings of a level that searches by the cross-entropy method."""
    of_level = f"levels.{level}"
    return (
        f"{of_level}.horizon={horizon}",
        f"{of_level}.planner.kind=cem",
        f"{of_level}.planner.population={population}",
    )


GREEDY = "actor.coordination=greedy"
ANEW = "actor.surprise_threshold=0.001"
THROUGHOUT = "actor.satisfaction=critic"
EIGHT = "actor.joint_candidates=8"
ROWS = (
    Row("flat, greedy, distance", 1, "latent", ("levels.0.horizon=1",)),
    Row("flat, CEM, distance", 1, "latent", cem(0, 20, 23)),
    Row("2 levels, distance", 2, "latent", (*cem(1, 8, 256), GREEDY)),
    Row("3 levels, distance", 3, "latent", (*cem(2, 3, 256), *cem(1, 3, 64), GREEDY)),
    Row("flat, greedy, critic", 1, "critic", ("levels.0.horizon=1",)),
    Row("flat, CEM, critic", 1, "critic", cem(0, 20, 16)),
    Row("flat, CEM of 88, critic", 1, "critic", cem(0, 20, 88)),
    Row("flat, beam of 5, critic", 1, "critic"),
    Row("flat, beam of 8, critic", 1, "critic", ("levels.0.horizon=8", "levels.0.planner.width=64")),
    Row("2 levels, greedy, critic", 2, "critic", (GREEDY,)),
    Row("2 levels, forgetful, critic", 2, "critic", ("actor.habituation_above=0",)),
    Row("2 levels, critic", 2, "critic"),
    Row("2 levels, anew, critic", 2, "critic", (ANEW,)),
    Row("2 levels, critic throughout", 2, "critic", (THROUGHOUT,)),
    Row("2 levels, anew, critic throughout", 2, "critic", (THROUGHOUT, ANEW)),
    Row("3 levels, critic", 3, "critic", (*cem(1, 3, 64), EIGHT)),
    Row("3 levels, critic throughout", 3, "critic", (THROUGHOUT, EIGHT)),
    Row("3 levels, anew, critic throughout", 3, "critic", (THROUGHOUT, EIGHT, ANEW)),
    Row("oracle's subgoals", 2, "latent", oracle=True),
)
RECORDS = 1024
"""Records in a batch of the levels above 0."""


def main(study: Path, arguments: Sequence[str] | None = None) -> int:
    """Train what is not trained yet, play the rows, write table and figure; the study's folder has its config."""
    parser = options(study)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = Path(given.runs) / f"seed_{given.seed}"
    rows = chosen(given)
    agent, learned = trained(study / CONFIG, folder, given)
    results = json.loads((folder / "results.json").read_text()) if (folder / "results.json").exists() else {}
    tasks = make_tasks(agent.spec.env.id, given.tasks)
    for row in rows:
        if row.name in results:
            continue
        begin = perf_counter()
        planner = planning_as(agent, study / CONFIG, row.overrides)
        played = [play(planner, agent.spec.env.id, own, row) for own in tasks]
        results[row.name] = {
            "success": [one.success.tolist() for one in played],
            "taken": [one.taken.tolist() for one in played],
            "optimal": [[task.optimal for task in own] for own in tasks],
            "evaluations": float(np.mean([one.evaluations for one in played])),
            "seconds": perf_counter() - begin,
            "commit": learned,
            **asdict(row),
        }
        print(row.name, [f"{one.success.mean():.0%}" for one in played], flush=True)
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    publish(
        Path(given.runs), study if given.publish else None, [row.name for row in ROWS], command_line(parser, arguments)
    )
    return 0


def chosen(given: argparse.Namespace) -> list[Row]:
    """The rows to play. ConfigError for one that there is not or that needs levels that are not learned."""
    known = {row.name: row for row in ROWS if row.levels <= given.levels}
    names = given.rows.split(";") if given.rows else list(known)
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--rows: of {given.levels} levels there is no {unknown[0]!r}; there are: {'; '.join(known)}")
    return [known[name] for name in names]


def options(study: Path) -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{study.name}.run", description=__doc__)
    parser.add_argument("--runs", default=f"runs/{study.name}", metavar="DIR", help="folder of the runs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, data and draws (%(default)s)")
    parser.add_argument(
        "--levels", type=int, default=3, choices=(2, 3), help="levels to learn and to play (%(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=250_000, help="frames of each of the walks through many layouts (%(default)s)"
    )
    parser.add_argument(
        "--walks", type=int, default=160, help="whole episodes that the critics learn from (%(default)s)"
    )
    parser.add_argument("--lowest", type=int, default=3000, help="updates of level 0 (%(default)s)")
    parser.add_argument(
        "--say", type=float, default=0.0, help="weight of the critic's loss in what level 0 perceives (%(default)s)"
    )
    parser.add_argument("--again", type=int, default=4000, help="updates of level 0 on its states (%(default)s)")
    parser.add_argument("--upper", type=int, default=20000, help="updates of each level above 0 (%(default)s)")
    parser.add_argument("--critic", type=int, default=2400, help="updates of each critic (%(default)s)")
    parser.add_argument("--tasks", type=int, default=50, help="tasks in each bin (%(default)s)")
    parser.add_argument("--rows", default="", help="rows to play, parted by semicolons; all by default")
    parser.add_argument("--publish", action="store_true", help="write table and figure of all seeds into the README")
    return parser


def trained(source: Path, folder: Path, given: argparse.Namespace) -> tuple[Agent, str]:
    """The run's agent and the commit of its last stage, trained first as far as it is not yet: a run that was cut off
    goes on after its last stage."""
    config = load(source, [f"train.seed={given.seed}", f"run.dir={folder}"])
    least = LAYOUTS * max(config.train.window, CHUNK + 1)
    if given.frames < least:
        raise ConfigError(f"--frames: {LAYOUTS} layouts need {least:,} frames or more")
    if not 0 <= given.say < float("inf"):
        raise ConfigError(f"--say: must be 0 or more (got {given.say})")
    torch.manual_seed(given.seed)
    agent = build_agent(config, env_spec(config.env.id))
    done, seconds, learned = 0, 0.0, ""
    if checkpoint.checkpoints(folder / "checkpoints"):
        tensors, meta = checkpoint.load_latest(folder / "checkpoints")[:2]
        agent.load_state_dict(tensors["agent"])
        done, seconds, learned = meta["stage"], meta["seconds"], meta["commit"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump(config))
    for number, stage in enumerate(stages(agent, config, given), start=1):
        if number <= done:
            continue
        begin = perf_counter()
        torch.manual_seed(given.seed + number)
        stage()
        seconds += perf_counter() - begin
        meta = {"stage": number, "frames": 2 * given.frames + walk_frames(agent, given), "seconds": seconds}
        meta["commit"] = learned = commit()
        tensors = {name: value.detach().contiguous() for name, value in agent.state_dict().items()}
        checkpoint.save(folder / "checkpoints", number, {"agent": tensors}, meta, 1)
    return agent.eval(), learned


def stages(agent: Agent, config: RunConfig, given: argparse.Namespace) -> list[Callable[[], None]]:
    """What is learned one after the other: level 0, from images and then on its states; level 1; their critics, which
    judge predictions of these world models and on which nothing rests; then a third level and its critic, so that a run
    of two levels can be given one more."""

    @cache
    def short() -> States:
        return perceive(agent, look(config, given.frames, 2, LAYOUTS, STUBBORN))

    @cache
    def walks() -> tuple[Views, Ways]:
        views = look(config, walk_frames(agent, given), 1, config.env.num_envs)
        ways = Ways(views.place, views.action, views.is_first, views.truncated, agent.spec.env.num_actions)
        if not ways.walks:
            raise ConfigError(f"--walks: {given.walks} are fewer than the {config.env.num_envs} walked side by side")
        return views, ways

    @cache
    def long() -> States:
        return perceive(agent, walks()[0])

    def lowest() -> None:
        say = Say(*walks(), given.say) if given.say > 0 else None
        learn_lowest(agent, config, given.frames, given.lowest, say)

    def critic(level: int) -> None:
        learn_critic(agent, config, long(), walks()[1], level, given.critic)

    def upper(level: int) -> None:
        learn_upper(agent, config, short(), level, given.upper, RECORDS)

    made: list[Callable[[], None]] = [
        lowest,
        lambda: learn_stubbornness(agent, config, short(), given.again),
        partial(upper, 1),
        partial(critic, 0),
        partial(critic, 1),
    ]
    return made + [partial(learn, level) for level in range(2, given.levels) for learn in (upper, critic)]


def walk_frames(agent: Agent, given: argparse.Namespace) -> int:
    """Frames of the walks that the critics learn from: a record more an episode than it has steps."""
    return given.walks * (agent.spec.env.max_steps + 1)


if __name__ == "__main__":
    sys.exit(guarded(partial(main, Path(__file__).parent)))
