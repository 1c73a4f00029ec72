"""Goal reaching without reward: an agent learns how rooms work, is shown a view, and goes there.

python -m experiments.goal_reaching.run --publish, or with goal_reaching_doors in its place
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Bool
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.common import command_line, guarded, machine, markdown, write_readme
from experiments.goal_reaching.learn import (
    LAYOUTS,
    STUBBORN,
    States,
    learn_critic,
    learn_lowest,
    learn_stubbornness,
    learn_upper,
    perceive,
)
from experiments.goal_reaching.play import Row, planning_as, play
from experiments.goal_reaching.tasks import BINS, make_tasks
from experiments.goal_reaching.ways import Ways
from hjepa.agent import Agent
from hjepa.build import build_agent
from hjepa.config import ConfigError, RunConfig, dump, load
from hjepa.data import checkpoint
from hjepa.envs.make import env_spec
from hjepa.eval.stats import paired_test, wilson_interval
from hjepa.train.run import git

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
ROWS = (
    Row("flat, greedy, distance", 1, "latent", ("levels.0.horizon=1",)),
    Row("flat, CEM, distance", 1, "latent", cem(0, 20, 23)),
    Row("2 levels, distance", 2, "latent", (*cem(1, 8, 256), GREEDY)),
    Row("3 levels, distance", 3, "latent", (*cem(2, 3, 256), *cem(1, 3, 64), GREEDY)),
    Row("flat, greedy, critic", 1, "critic", ("levels.0.horizon=1",)),
    Row("flat, CEM, critic", 1, "critic", cem(0, 20, 16)),
    Row("flat, beam of 5, critic", 1, "critic"),
    Row("flat, beam of 8, critic", 1, "critic", ("levels.0.horizon=8", "levels.0.planner.width=64")),
    Row("2 levels, greedy, critic", 2, "critic", (GREEDY,)),
    Row("2 levels, forgetful, critic", 2, "critic", ("actor.habituation_above=0",)),
    Row("2 levels, critic", 2, "critic"),
    Row("3 levels, critic", 3, "critic", (*cem(1, 3, 64), "actor.joint_candidates=8")),
    Row("oracle's subgoals", 2, "latent", oracle=True),
)
RECORDS = 1024
"""Records in a batch of the levels above 0."""
FLAT = {"latent": "flat, CEM, distance", "critic": "flat, CEM, critic"}
"""What the rows of each cost are compared with."""


def main(study: Path, arguments: Sequence[str] | None = None) -> int:
    """Train what is not trained yet, play the rows, write table and figure; the study's folder has its config."""
    parser = options(study)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = Path(given.runs) / f"seed_{given.seed}"
    agent = trained(study / CONFIG, folder, given)
    names = given.rows.split(";") if given.rows else [row.name for row in ROWS]
    results = json.loads((folder / "results.json").read_text()) if (folder / "results.json").exists() else {}
    tasks = make_tasks(agent.spec.env.id, given.tasks)
    for row in ROWS:
        if row.name not in names or row.name in results:
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
            **asdict(row),
        }
        print(row.name, [f"{one.success.mean():.0%}" for one in played], flush=True)
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    finish(results, study if given.publish else folder, folder, given, command_line(parser, arguments))
    return 0


def options(study: Path) -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{study.name}.run", description=__doc__)
    parser.add_argument("--runs", default=f"runs/{study.name}", metavar="DIR", help="folder of the runs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, data and draws (%(default)s)")
    parser.add_argument(
        "--frames", type=int, default=250_000, help="frames of each of the walks through many layouts (%(default)s)"
    )
    parser.add_argument(
        "--walks", type=int, default=160, help="whole episodes that the critics learn from (%(default)s)"
    )
    parser.add_argument("--lowest", type=int, default=3000, help="updates of level 0 (%(default)s)")
    parser.add_argument("--again", type=int, default=4000, help="updates of level 0 on its states (%(default)s)")
    parser.add_argument("--upper", type=int, default=20000, help="updates of each level above 0 (%(default)s)")
    parser.add_argument("--critic", type=int, default=2400, help="updates of each critic (%(default)s)")
    parser.add_argument("--tasks", type=int, default=50, help="tasks in each bin (%(default)s)")
    parser.add_argument("--rows", default="", help="rows to play, parted by semicolons; all by default")
    parser.add_argument("--publish", action="store_true", help="write table and figure into the study's README")
    return parser


def trained(source: Path, folder: Path, given: argparse.Namespace) -> Agent:
    """The run's agent, trained first as far as it is not yet: a run that was cut off goes on after its last stage."""
    config = load(source, [f"train.seed={given.seed}", f"run.dir={folder}"])
    if given.frames < LAYOUTS * config.train.window:
        raise ConfigError(f"--frames: {LAYOUTS} layouts need {LAYOUTS * config.train.window:,} frames or more")
    torch.manual_seed(given.seed)
    agent = build_agent(config, env_spec(config.env.id))
    done, seconds = 0, 0.0
    if checkpoint.checkpoints(folder / "checkpoints"):
        tensors, meta = checkpoint.load_latest(folder / "checkpoints")[:2]
        agent.load_state_dict(tensors["agent"])
        done, seconds = meta["stage"], meta["seconds"]
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
        meta["commit"] = git("rev-parse", "HEAD")
        tensors = {name: value.detach().contiguous() for name, value in agent.state_dict().items()}
        checkpoint.save(folder / "checkpoints", number, {"agent": tensors}, meta, 1)
    return agent.eval()


def stages(agent: Agent, config: RunConfig, given: argparse.Namespace) -> list[Callable[[], None]]:
    """What is learned one after the other: level 0, from images and then on its states; then level by level the world
    model and the critic that judges its predictions."""

    @cache
    def short() -> States:
        return perceive(agent, config, given.frames, 2, LAYOUTS, STUBBORN)

    @cache
    def long() -> tuple[States, Ways]:
        states = perceive(agent, config, walk_frames(agent, given), 1, config.env.num_envs)
        ways = Ways(states.view, states.place, states.is_first, states.truncated)
        if not ways.walks:
            raise ConfigError(f"--walks: {given.walks} are fewer than the {config.env.num_envs} walked side by side")
        return states, ways

    def critic(level: int) -> None:
        learn_critic(agent, config, *long(), short(), level, given.critic)

    def upper(level: int) -> None:
        learn_upper(agent, config, short(), level, given.upper, RECORDS)

    made: list[Callable[[], None]] = [
        lambda: learn_lowest(agent, config, given.frames, given.lowest),
        lambda: learn_stubbornness(agent, config, short(), given.again),
    ]
    for level in range(len(agent.spec.levels)):
        made += [partial(upper, level)] if level > 0 else []
        made.append(partial(critic, level))
    return made


def walk_frames(agent: Agent, given: argparse.Namespace) -> int:
    """Frames of the walks that the critics learn from: a record more an episode than it has steps."""
    return given.walks * (agent.spec.env.max_steps + 1)


def finish(
    results: Mapping[str, dict],  # type: ignore[type-arg]
    target: Path,
    folder: Path,
    given: argparse.Namespace,
    command: str,
) -> None:
    """Table and figure beside the run or, if it is asked for, in the study's folder."""
    shown = [results[row.name] for row in ROWS if row.name in results]
    titles = [f"{low} to {high - 1}" for low, high in BINS]
    columns = {"row": lambda one: one["name"]}
    for place, title in enumerate(titles):
        columns[title] = lambda one, place=place: rate(np.array(one["success"][place]))
    columns["evaluations"] = lambda one: f"{one['evaluations']:.0f}"
    columns["far, against flat"] = lambda one: against(one, results)
    table = markdown(shown, columns)
    meta = checkpoint.load_latest(folder / "checkpoints")[1]
    origin = {
        "commit": meta["commit"],
        "seeds": str(given.seed),
        "machine": machine("none"),
        "command": command,
    }
    figure = draw(shown, titles)
    FigureCanvasAgg(figure).print_png(target / "figure.png")
    (target / "table.md").write_text(table)
    print(table)
    if given.publish:
        (target / "results.json").write_text(json.dumps(origin | {"rows": shown}, indent=1) + "\n")
        write_readme(target, f"{table}\n![goal reaching](figure.png)\n", origin)


def rate(success: Bool[np.ndarray, " E"]) -> str:
    """A success rate with its Wilson interval."""
    low, high = wilson_interval(int(success.sum()), len(success))
    return f"{success.mean():.0%} ({low:.0%} to {high:.0%})"


def against(one: dict, results: Mapping[str, dict]) -> str:  # type: ignore[type-arg]
    """Tasks of the far bin that only this row or only its flat counterpart solved, and McNemar's p."""
    flat = FLAT[one["cost"]]
    if one["levels"] == 1 or flat not in results:
        return ""
    own, other = np.array(one["success"][-1]), np.array(results[flat]["success"][-1])
    more, less, p = paired_test(own, other)
    return f"+{more} -{less}, p = {p:.1g}"


def draw(shown: Sequence[dict], titles: Sequence[str]) -> Figure:  # type: ignore[type-arg]
    """Success by bin, a bar a row."""
    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    width = 0.85 / max(len(shown), 1)
    for number, one in enumerate(shown):
        rates = [float(np.mean(own)) for own in one["success"]]
        color = f"C{('latent', 'critic').index(one['cost'])}" if not one["oracle"] else "C2"
        places = [place + number * width for place in range(len(rates))]
        axes.bar(places, rates, width * 0.9, label=one["name"], color=color, alpha=0.35 + 0.2 * one["levels"])
        for place, value in zip(places, rates, strict=True):
            axes.text(place, value + 0.01, f"{value:.0%}", ha="center", fontsize=6)
    axes.set_xticks([place + 0.4 for place in range(len(titles))], [f"{title} actions" for title in titles])
    axes.set(ylim=(0, 1.08), ylabel="success")
    figure.legend(fontsize=7, ncols=4, loc="outside lower center")
    return figure


if __name__ == "__main__":
    sys.exit(guarded(partial(main, Path(__file__).parent)))
