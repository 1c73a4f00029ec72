"""The tasks: a held-out layout, where to start, and what to bring about. Shortest paths make them, nothing else."""

from collections.abc import Sequence
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
from hjepa.eval.shortest_path import Episode, Maze, ShortestPaths, State
from hjepa.types import Observation

BINS = ((8, 16), (16, 28), (28, 45))
"""Fewest actions from start to goal: from the first up to, but without, the second."""
SUITE = 20261121
"""Number of the suite of held-out layouts."""


@dataclass(frozen=True)
class Task:
    """One layout, one start and one goal."""

    seed: int
    start: tuple[int, int, int]
    """Column, row and direction."""
    goal: tuple[int, int, int]
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
    maze = Episode(env).maze
    random = Random(index)
    free = [cell for cell in range(maze.width * env.unwrapped.height) if cell not in maze.walls]
    first, last = random.sample(free, 2)
    start = (first % maze.width, first // maze.width, random.randrange(4))
    goal = (last % maze.width, last // maze.width, random.randrange(4))
    return Task(seed, start, goal, way_to(maze, goal).steps(state_of(maze, start)))


def way_to(maze: Maze, goal: tuple[int, int, int]) -> ShortestPaths:
    """Shortest paths to the goal's cell."""
    return ShortestPaths(replace(maze, goals=frozenset({goal[1] * maze.width + goal[0]})))


def state_of(maze: Maze, place: tuple[int, int, int]) -> State:
    """A place as the search knows it."""
    return place[1] * maze.width + place[0], place[2], (), ()


class Games:
    """Several tasks played side by side."""

    def __init__(self, env_id: str, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.envs: list[Any] = [make_env(env_id) for _ in tasks]
        for env, task in zip(self.envs, tasks, strict=True):
            quiet_reset(env, task.seed)
            put(env, task.start)
        self.mission = torch.from_numpy(np.stack([encode_mission(env.unwrapped.mission) for env in self.envs]))
        self.taken = np.zeros(len(tasks), dtype=np.int64)
        self.success = np.zeros(len(tasks), dtype=bool)

    @property
    def playing(self) -> np.ndarray:
        """Rows that have neither arrived nor spent their budget."""
        return ~self.success & (self.taken < np.array([task.budget for task in self.tasks]))

    def goals(self) -> Observation:
        """What the agent is to see in the end."""
        images = [view(env, task.goal) for env, task in zip(self.envs, self.tasks, strict=True)]
        return Observation(torch.from_numpy(np.stack(images)), self.mission)

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
            world = self.envs[row].unwrapped
            self.envs[row].step(int(action[row]))
            self.taken[row] += 1
            self.success[row] = tuple(world.agent_pos) == self.tasks[row].goal[:2]


class OracleWay:
    """What lies `span` actions ahead on a shortest way, set anew when reached or overdue. Diagnosis only."""

    def __init__(self, games: Games, span: int) -> None:
        self.games, self.span = games, span
        self.mazes = [Episode(env).maze for env in games.envs]
        self.ways = [way_to(maze, task.goal) for maze, task in zip(self.mazes, games.tasks, strict=True)]
        self.target: list[tuple[int, int, int] | None] = [None] * len(self.ways)
        self.age = [0] * len(self.ways)

    def views(self) -> Observation:
        """The observations to be brought about next."""
        images = []
        for row, env in enumerate(self.games.envs):
            column, line = env.unwrapped.agent_pos
            present = (int(column), int(line), int(env.unwrapped.agent_dir))
            self.age[row] += 1
            target = self.target[row]
            if target is None or target == present or self.age[row] >= self.span:
                target, self.age[row] = self.ahead(row, present), 0
                self.target[row] = target
            images.append(view(env, target))
        return Observation(torch.from_numpy(np.stack(images)), self.games.mission)

    def ahead(self, row: int, present: tuple[int, int, int]) -> tuple[int, int, int]:
        """Where a shortest way leads in `span` actions; to the goal itself where that is nearer."""
        maze, way = self.mazes[row], self.ways[row]
        state = state_of(maze, present)
        for action in way.actions(state, self.span) or []:
            after = dict(maze.successors(state))[action]
            if after is None:
                return self.games.tasks[row].goal
            state = after
        return state[0] % maze.width, state[0] // maze.width, state[1]


def put(env: Any, place: tuple[int, int, int]) -> None:
    """Put the agent somewhere."""
    env.unwrapped.agent_pos, env.unwrapped.agent_dir = place[:2], place[2]


def view(env: Any, place: tuple[int, int, int]) -> UInt8[np.ndarray, "W V 3"]:
    """What the agent would see from `place`; it stays where it is."""
    world = env.unwrapped
    present = (*world.agent_pos, world.agent_dir)
    put(env, place)
    image = world.gen_obs()["image"]
    put(env, present)
    return image
