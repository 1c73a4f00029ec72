"""An oracle's subgoals: what the agent would perceive a few steps ahead on a shortest path. Diagnosis only.

It knows the true state of the environment, which no agent may; nothing that learns may import it.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hjepa.agent import Agent, AgentState
from hjepa.envs.vector import Record
from hjepa.eval.shortest_path import (
    GROUND,
    STATE_LIMIT,
    Episode,
    Maze,
    ShortestPaths,
    State,
    UnsupportedError,
)
from hjepa.types import Observation

KEPT_MAZES = 20
"""Mazes whose shortest paths are kept, newest first out of use: rows that repeat a layout share them."""


class OracleSubgoals:
    """Sets the subgoals of one level: the latent, a level up, of `span` steps ahead on a shortest path.

    The future observation is rendered by a copy of the environment that takes the optimal actions, and
    perceived by the agent itself, with what it carries (its map, its hidden state) taken along. A subgoal is
    kept until its place is reached or `span` steps have passed, much as the agent keeps its own. Rows without
    a way to success get the present state.
    """

    def __init__(self, agent: Agent, level: int = 0, limit: int = STATE_LIMIT) -> None:
        """Subgoals for `level`; ValueError where no level lies above it."""
        if not 0 <= level < len(agent.spec.levels) - 1:
            raise ValueError(f"level {level} has no level above it")
        self.agent, self.level, self.limit = agent, level, limit
        self.span = agent.spec.levels[level + 1].span
        self.subgoals, self.without_way = 0, 0
        """Subgoals set, and how many of them for want of a way (no path, or too many states)."""
        self._mazes: dict[Maze, ShortestPaths] = {}
        self._rows: dict[int, _Row] = {}
        self._latents: Tensor | None = None

    def __call__(self, record: Record, state: AgentState, envs: Sequence[Any]) -> dict[int, Float[Tensor, "N G"]]:
        """The subgoals for `record` (`rollout.Oracle`). Raises UnsupportedError for unknown rules."""
        over = (record.terminated | record.truncated).tolist()
        renewed = []
        for row, first in enumerate(record.is_first.tolist()):
            if first:
                self._rows[row] = _Row(Episode(envs[row]))
            if not over[row] and self._rows[row].expired(envs[row], self.span):
                renewed.append(row)
        paths = [self._path(row, envs[row]) for row in renewed]
        latents = self._latents
        if latents is None:
            width = self.agent.spec.levels[self.level].upper_dim
            latents = torch.zeros(len(envs), width, device=record.reward.device)
        if renewed:
            rows = torch.tensor(renewed, device=record.reward.device)
            latent = self._imagine(record[rows], state.carry[rows], [envs[row] for row in renewed], paths)
            latents = latents.index_copy(0, rows, latent)
        self._latents = latents
        return {self.level: latents}

    def _path(self, row: int, env: Any) -> list[int]:
        """The optimal actions toward the row's next subgoal, which is set by this."""
        own = self._rows[row]
        present = own.episode.state(env)
        try:
            path = self._paths(own.episode.maze).actions(present, self.span)
        except UnsupportedError:
            path = None
        self.subgoals += 1
        self.without_way += path is None
        own.age, own.target = 0, None if path is None else self._end(own.episode.maze, present, path)
        return path or []

    def _end(self, maze: Maze, present: State, path: list[int]) -> State | None:
        after: State | None = present
        for action in path:
            assert after is not None
            after = dict(maze.successors(after))[action]
        return after

    def _paths(self, maze: Maze) -> ShortestPaths:
        paths = self._mazes.pop(maze, None) or ShortestPaths(maze, self.limit)
        self._mazes[maze] = paths
        if len(self._mazes) > KEPT_MAZES:
            del self._mazes[next(iter(self._mazes))]
        return paths

    def _imagine(
        self, record: Record, carry: Tensor, envs: Sequence[Any], paths: list[list[int]]
    ) -> Float[Tensor, "R G"]:
        """Latents, a level up, of what the agent perceives after taking `paths` from `record`."""
        task = self.agent.configure(record.mission)
        lowest, carry = self.agent.perceive(record.observation, record, carry, task)  # type: ignore[arg-type]
        frames, actions = _futures(envs, paths, self.span)
        for step in range(self.span):
            action = torch.from_numpy(actions[:, step]).to(lowest.device)
            image = torch.from_numpy(frames[:, step]).to(lowest.device)
            imagined = replace(record, previous_action=action, is_first=torch.zeros_like(record.is_first))
            observation = Observation(image, record.mission)
            ahead, carry = self.agent.perceive(observation, imagined, carry, task)  # type: ignore[arg-type]
            lowest = torch.where((action >= 0)[:, None], ahead, lowest)
        return self.agent.lift(lowest, task.tokens)[self.level + 1]


class _Row:
    """One environment's episode and the subgoal that is set in it."""

    def __init__(self, episode: Episode) -> None:
        self.episode = episode
        self.target: State | None = None
        self.age: int | None = None

    def expired(self, env: Any, span: int) -> bool:
        """Whether a new subgoal is due; a step passes with every call."""
        if self.age is None:
            return True
        self.age += 1
        return self.age >= span or self.episode.state(env) == self.target


def _futures(
    envs: Sequence[Any], paths: list[list[int]], span: int
) -> tuple[UInt8[np.ndarray, "R H W V 3"], Int[np.ndarray, "R H"]]:
    """What copies of the environments show along the paths, and the actions; -1 after a path's end."""
    actions = np.full((len(envs), span), -1)
    frames = []
    for row, (env, path) in enumerate(zip(envs, paths, strict=True)):
        actions[row, : len(path)] = path
        frames.append(_views(env, path, span))
    return np.stack(frames), actions


def _views(env: Any, path: list[int], span: int) -> UInt8[np.ndarray, "H W V 3"]:
    """Views along a path, blank after its end. The environment itself is left alone."""
    views = np.zeros((span, *env.observation_space["image"].shape), np.uint8)
    if path:
        # What never changes is shared with the copy, which makes it several times as quick.
        ground = (item for item in env.unwrapped.grid.grid if item is not None and item.type in GROUND)
        ahead = copy.deepcopy(env, {id(item): item for item in ground})
        for step, action in enumerate(path):
            views[step] = ahead.step(action)[0]["image"]
    return views
