"""Does level 0 do as it is told? The same agents under an oracle's subgoals and their own, followed in several ways.

python -m experiments.following.run --jobs 2
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.common import Study, TrainedRun, dots, guarded, provenance, study
from hjepa.agent import Agent
from hjepa.build import build_agent
from hjepa.config import load
from hjepa.envs.make import env_spec
from hjepa.envs.seeds import held_out_seed
from hjepa.envs.vector import VectorEnv
from hjepa.eval.load import load_weights, newest
from hjepa.eval.oracle import OracleSubgoals
from hjepa.eval.rollout import run_episodes, undisturbed
from hjepa.eval.shortest_path import Episode, ShortestPaths

WAYS: tuple[tuple[str, float], ...] = (
    ("lifted", 0.0), ("lifted", 1.0), ("lifted", 4.0), ("lifted", 20.0), ("own", 4.0),
    ("hindsight", 0.3), ("hindsight", 1.0), ("hindsight", 3.0),
)  # fmt: skip
"""`actor.satisfaction` and `actor.subgoal_weight`; with weight 0 nothing is followed."""
APART = (1, 2, 3, 4, 6, 8, 12, 20)
"""Steps between states on a shortest path whose distance is measured."""
LAYOUTS, STEPS = 16, 60
"""Held-out layouts in which it is, and steps in each."""


@dataclass(frozen=True)
class Following:
    """One way to follow, all seeds."""

    arm: str
    satisfaction: str
    weight: float
    oracle: tuple[float, ...]
    """Success of each run under an oracle's subgoals for level 0 (diagnosis only)."""
    own: tuple[float, ...]
    """Success of each run under its own subgoals, all levels planning."""
    commit: str


COLUMNS: dict[str, Callable[[Following], str]] = {
    "satisfaction": lambda row: row.satisfaction if row.weight else "nothing is followed",
    "weight": lambda row: f"{row.weight:g}",
    "an oracle's subgoals": lambda row: f"{mean(row.oracle):.0%}",
    "each run": lambda row: ", ".join(f"{value:.0%}" for value in row.oracle),
    "own subgoals": lambda row: f"{mean(row.own):.0%}",
    "each": lambda row: ", ".join(f"{value:.0%}" for value in row.own),
    "commit": lambda row: ", ".join(commit[:7] for commit in row.commit.split(", ")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, play every way to follow, measure distances along shortest paths."""
    following = study(__file__, __doc__ or "", arguments)
    runs = following.train()
    torch.set_num_threads(1)
    rows = [row_of(following, runs, *way) for way in WAYS]
    figure = Figure(figsize=(11, 4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_distances(
        left, [distances(agent_of(trained.folder, "lifted", 1.0), env_of(trained.folder)) for trained in runs]
    )
    draw_success(right, rows)
    return following.finish(rows, COLUMNS, figure)


def row_of(following: Study, runs: Sequence[TrainedRun], satisfaction: str, weight: float) -> Following:
    """Every run played on the same held-out layouts, following in one way."""
    seeds = [held_out_seed(0, index) for index in range(following.episodes)]
    oracle, own = [], []
    for trained in runs:
        agent, env_id = agent_of(trained.folder, satisfaction, weight), env_of(trained.folder)
        told = run_episodes(agent, env_id, seeds, 2, oracle=OracleSubgoals(agent, 0))
        oracle.append(float(told.success.mean()))
        own.append(float(run_episodes(agent, env_id, seeds, 2).success.mean()))
        print(f"{satisfaction} {weight:g}, {trained.folder.name}: {oracle[-1]:.0%}, own {own[-1]:.0%}", flush=True)
    commits = provenance(trained.folder for trained in runs)["commit"]
    return Following(runs[0].arm, satisfaction, weight, tuple(oracle), tuple(own), commits)


def agent_of(folder: Path, satisfaction: str, weight: float) -> Agent:
    """A run's agent that follows in another way; whoever does not ask its followers does without."""
    settings = [f"actor.satisfaction={satisfaction}", f"actor.subgoal_weight={weight}"]
    config = load(folder / "config.yaml", settings)
    agent = build_agent(config, env_spec(config.env.id))
    weights = newest(folder)[0]["agent"]
    known = set(agent.state_dict())
    kept = {name: tensor for name, tensor in weights.items() if name in known or ".followers." not in name}
    load_weights(agent, kept, folder)
    return agent.eval()


def env_of(folder: Path) -> str:
    """What a run was trained in."""
    return load(folder / "config.yaml").env.id


def distances(agent: Agent, env_id: str) -> Float[Tensor, "L K"]:
    """Mean distance of states `APART` steps apart on an oracle's shortest paths, in units of those of 4 steps."""
    env = VectorEnv(env_id, LAYOUTS, lambda row, episode: held_out_seed(1, row + LAYOUTS * episode))
    carry, action = agent.perception.initial(LAYOUTS, torch.device("cpu")), torch.zeros(LAYOUTS, dtype=torch.int64)
    states: list[tuple[Tensor, ...]] = []
    firsts = []
    try:
        with undisturbed(agent, 0):
            for _ in range(STEPS):
                record = env.step(action)
                task = agent.configure(record.mission)
                lowest, carry = agent.perceive(record.observation, record, carry, task)
                states.append(agent.lift(lowest, task.tokens))
                firsts.append(record.is_first)
                action = torch.tensor([best_action(one) for one in env.envs])
    finally:
        env.close()
    episode = torch.stack(firsts).cumsum(0)
    levels = [torch.stack(level) for level in zip(*states, strict=True)]
    means = torch.stack([torch.stack([_mean(level, episode, apart) for apart in APART]) for level in levels])
    return means / means[:, APART.index(4), None]


def _mean(states: Float[Tensor, "T B D"], episode: Tensor, apart: int) -> Float[Tensor, ""]:
    """Mean distance of states so many steps apart in the same episode."""
    together = episode[apart:] == episode[:-apart]
    return torch.linalg.vector_norm(states[apart:] - states[:-apart], dim=-1)[together].mean()


def best_action(env: object) -> int:
    """The first action of a shortest path (an oracle's; diagnosis only)."""
    episode = Episode(env)
    path = ShortestPaths(episode.maze).actions(episode.state(env), 1)
    return path[0] if path else 0


def draw_distances(axes: Axes, measured: Sequence[Float[Tensor, "L K"]]) -> None:
    """How distances grow with the steps between, a line a level: mean of the runs, and each run."""
    together = torch.stack(list(measured))
    for level, line in enumerate(together.mean(0)):
        axes.plot(APART, line, color=f"C{level}", label=f"level {level}")
        for run in together[:, level]:
            axes.plot(APART, run, color=f"C{level}", linewidth=0.6, alpha=0.5)
    axes.plot(APART, [apart / 4 for apart in APART], ":", color="gray", label="in proportion")
    axes.set(xlabel="steps between, on a shortest path", ylabel="distance, in those of 4 steps", ylim=(0, 3))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)


def draw_success(axes: Axes, rows: Sequence[Following]) -> None:
    """Success under an oracle's subgoals and under the agent's own."""
    names = [f"{row.satisfaction}\n{row.weight:g}" if row.weight else "nothing" for row in rows]
    told: Mapping[str, Sequence[float]] = {name: row.oracle for name, row in zip(names, rows, strict=True)}
    own: Mapping[str, Sequence[float]] = {name: row.own for name, row in zip(names, rows, strict=True)}
    dots(axes, told, "C0", -0.2)
    dots(axes, own, "C1", 0.2)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set(
        ylabel="success",
        ylim=(0, 1),
        title="blue: an oracle's subgoals; orange: its own",
        xlabel="satisfaction, weight",
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
