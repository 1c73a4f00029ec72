"""The tasks: a held-out layout, where to start, and what to bring about. Shortest paths make them, nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from hjepa.envs.make import make_env, quiet_reset
from hjepa.envs.seeds import held_out_seed
from hjepa.envs.text import encode_mission
from hjepa.envs.vector import Record
from hjepa.eval.shortest_path import NOWHERE, OPEN, Episode, Maze, ShortestPaths, State
from hjepa.types import Observation

BINS = ((8, 16), (16, 28), (28, 45))
"""Fewest actions from start to goal: from the first up to, but without, the second."""
SUITE = 20261121
"""Number of the suite of held-out layouts."""


@dataclass(frozen=True)
class Task:
    """One layout, one start and one goal."""

    seed: int
    start: State
    goal: State
    """Doors that lie on a shortest way to it stand open, the others are closed."""
    optimal: int
    """Fewest actions that bring the agent to the goal's cell, whatever its direction there."""

    @property
    def budget(self) -> int:
        """Actions that may be spent."""
        return 3 * self.optimal + 10


def make_tasks(env_id: str, each: int) -> list[list[Task]]:
    """`each` tasks for every bin, each on a layout of its own. The same ones every time."""
    env = make_env(env_id)
    tasks: list[list[Task]] = []
    index = 0
    for low, high in BINS:
        own: list[Task] = []
        while len(own) < each:
            task = draw(env, held_out_seed(SUITE, index), index)
            index += 1
            own += [task] if low <= task.optimal < high else []
        tasks.append(own)
    env.close()
    return tasks


def draw(env: Any, seed: int, index: int) -> Task:
    """Two places of a layout, drawn by the task's number."""
    quiet_reset(env, seed)
    episode = Episode(env)
    maze, (cell, _, things, doors) = episode.maze, episode.state(env)
    random = Random(index)
    first, last = random.sample(sorted(rooms(maze, cell)), 2)
    start = (first, random.randrange(4), things, doors)
    facing, way = random.randrange(4), way_to(maze, last)
    *_, before = [start, *way_states(way, start, NOWHERE)]
    return Task(seed, start, (last, facing, things, before[3]), way.steps(start))


def rooms(maze: Maze, cell: int) -> set[int]:
    """Cells that can be come to from one, doors aside."""
    doors, found, waiting = {cell for cell, _ in maze.doors}, {cell}, [cell]
    while waiting:
        here = waiting.pop()
        beside = {here - 1, here + 1, here - maze.width, here + maze.width} - maze.walls - found
        found |= beside
        waiting += beside
    return found - doors


def way_to(maze: Maze, cell: int) -> ShortestPaths:
    """Shortest paths to a cell."""
    return ShortestPaths(replace(maze, goals=frozenset({cell})))


def way_states(way: ShortestPaths, state: State, most: int) -> Iterator[State]:
    """The states after each of the first `most` actions of a shortest way, but for its end."""
    for action in way.actions(state, most) or []:
        after = dict(way.maze.successors(state))[action]
        if after is None:
            return
        yield (state := after)


class Games:
    """Several tasks played side by side."""

    def __init__(self, env_id: str, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.envs: list[Any] = [make_env(env_id) for _ in tasks]
        self.episodes: list[Episode] = []
        for env, task in zip(self.envs, tasks, strict=True):
            quiet_reset(env, task.seed)
            self.episodes.append(Episode(env))
            put(env, self.episodes[-1].maze, task.start)
        self.mission = torch.from_numpy(np.stack([encode_mission(env.unwrapped.mission) for env in self.envs]))
        self.taken = np.zeros(len(tasks), dtype=np.int64)
        self.success = np.zeros(len(tasks), dtype=bool)

    @property
    def playing(self) -> np.ndarray:
        """Rows that have neither arrived nor spent their budget."""
        return ~self.success & (self.taken < np.array([task.budget for task in self.tasks]))

    def goals(self) -> Observation:
        """What the agent is to see in the end."""
        images = [self.view(row, task.goal) for row, task in enumerate(self.tasks)]
        return Observation(torch.from_numpy(np.stack(images)), self.mission)

    def state(self, row: int) -> State:
        """The true state of a row now."""
        return self.episodes[row].state(self.envs[row])

    def view(self, row: int, state: State) -> UInt8[np.ndarray, "W V 3"]:
        """What the agent of a row would see in another state; it stays in its own."""
        env, maze, present = self.envs[row], self.episodes[row].maze, self.state(row)
        put(env, maze, state)
        image = env.unwrapped.gen_obs()["image"]
        put(env, maze, present)
        return image

    def record(self, previous: Tensor) -> Record:
        """What the agent sees now, after the actions `previous` (-1 at first)."""
        rows = len(self.tasks)
        images = np.stack([env.unwrapped.gen_obs()["image"] for env in self.envs])
        no = torch.zeros(rows, dtype=torch.bool)
        return Record(
            torch.from_numpy(images), self.mission, torch.zeros(rows), no, no, previous < 0, previous, frames=rows
        )

    def act(self, action: Tensor) -> None:
        """Take an action in every row that still plays."""
        for row in np.flatnonzero(self.playing).tolist():
            self.envs[row].step(int(action[row]))
            self.taken[row] += 1
            self.success[row] = self.state(row)[0] == self.tasks[row].goal[0]


class OracleWay:
    """What lies `span` actions ahead on a shortest way, set anew when reached or overdue. Diagnosis only."""

    def __init__(self, games: Games, span: int) -> None:
        self.games, self.span = games, span
        mazes = [episode.maze for episode in games.episodes]
        self.ways = [way_to(maze, task.goal[0]) for maze, task in zip(mazes, games.tasks, strict=True)]
        self.target: list[State | None] = [None] * len(self.ways)
        self.age = [0] * len(self.ways)

    def views(self) -> Observation:
        """The observations to be brought about next."""
        images = []
        for row in range(len(self.ways)):
            present, target = self.games.state(row), self.target[row]
            self.age[row] += 1
            if target is None or target == present or self.age[row] >= self.span:
                target, self.age[row] = self.ahead(row, present), 0
                self.target[row] = target
            images.append(self.games.view(row, target))
        return Observation(torch.from_numpy(np.stack(images)), self.games.mission)

    def ahead(self, row: int, present: State) -> State:
        """Where a shortest way leads in `span` actions; to the goal itself where that is nearer."""
        way = self.ways[row]
        states = list(way_states(way, present, self.span))
        return states[-1] if len(states) == self.span else self.games.tasks[row].goal


def put(env: Any, maze: Maze, state: State) -> None:
    """Bring about a state: agent and doors. Things are where they are."""
    world, (cell, direction, _, doors) = env.unwrapped, state
    world.agent_pos, world.agent_dir = (cell % maze.width, cell // maze.width), direction
    for (door, _), condition in zip(maze.doors, doors, strict=True):
        world.grid.get(door % maze.width, door // maze.width).is_open = condition == OPEN
