"""A batch of environments, stepped one after the other in this process, that can be rebuilt at any step.

MiniGrid steps in about 0.1 ms, less than it costs to send an observation between processes. An environment's
state is never stored: it is a function of the episode's seed and the actions since, so that is what a
checkpoint keeps.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from hjepa.config import ConfigError
from hjepa.envs.make import env_spec, make_env, quiet_reset
from hjepa.envs.text import MISSION_WORDS, encode_mission
from hjepa.types import Observation, TensorStruct


@dataclass(frozen=True)
class Record(TensorStruct):
    """What a batch of environments shows after one call of `VectorEnv.step`, a row an environment."""

    image: UInt8[Tensor, "N W V 3"]
    mission: Int[Tensor, "N Q"]
    reward: Float[Tensor, " N"]
    """0 in the first record of an episode."""
    terminated: Bool[Tensor, " N"]
    truncated: Bool[Tensor, " N"]
    """Cut off by the time limit."""
    is_first: Bool[Tensor, " N"]
    previous_action: Int[Tensor, " N"]
    """The action that led here, -1 in the first record of an episode."""
    frames: int
    """Environment steps taken in this call; resets are none."""

    @property
    def observation(self) -> Observation:
        """Image and mission, as the agent gets them."""
        return Observation(self.image, self.mission)


class VectorEnv:
    """`num_envs` environments of one kind; a row whose episode ended is reset at the next step.

    `seed_of(row, episode)` gives the layout seed of a row's episode number `episode`, counted from 0.
    """

    def __init__(self, name: str, num_envs: int, seed_of: Callable[[int, int], int]) -> None:
        """Raises ConfigError where `name` is not an environment that can be made."""
        self.spec = env_spec(name)
        self.num_envs = num_envs
        self.envs = [make_env(name) for _ in range(num_envs)]
        """For drawing, and for diagnosis that looks behind the partial view; never for the agent."""
        self.last: Record | None = None
        """The record that `step` gave last; None before the first."""
        self._seed_of = seed_of
        self._episode = [-1] * num_envs
        self._actions: list[list[int]] = [[] for _ in range(num_envs)]
        self._over = [True] * num_envs
        self._texts = [""] * num_envs
        self._missions = np.zeros((num_envs, MISSION_WORDS), np.int64)

    def step(self, actions: np.ndarray | Int[Tensor, " N"]) -> Record:
        """Take one action a row; rows whose last record ended (at first: all) are reset instead.

        Raises ValueError for an action that the environment does not have, RuntimeError (with id, row,
        episode and seed) for an environment that fails.
        """
        given: list[int] = actions.tolist()
        self._check(given)
        rows = _Rows(self.num_envs, self.spec.view)
        for row, action in enumerate(given):
            if self._over[row]:
                self._episode[row] += 1
                self._actions[row] = []
                observation = self._reset(row)
            else:
                observation = self._act(row, action, rows)
            self._show(row, observation, rows)
        self.last = rows.record(self._missions)
        return self.last

    def close(self) -> None:
        """Release what the environments hold."""
        for env in self.envs:
            env.close()

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs: episode, length and view checksum [N], and every row's actions, joined."""
        joined = [action for actions in self._actions for action in actions]
        return {
            "episode": torch.tensor(self._episode),
            "length": torch.tensor([len(actions) for actions in self._actions]),
            "checksum": self._checksums(),
            "actions": torch.tensor(joined, dtype=torch.int16),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Rebuild the environments, and `last` (its `frames` is 0), from what `state` gave, by replay.

        Raises ConfigError where the state is of another number of environments, or where an environment no
        longer shows what it showed (another version of it).
        """
        episodes, lengths = state["episode"].tolist(), state["length"].tolist()
        if len(episodes) != self.num_envs or sum(lengths) != len(state["actions"]):
            raise ConfigError(f"num_envs: saved state is of {len(episodes)} environments (got {self.num_envs})")
        rows = _Rows(self.num_envs, self.spec.view)
        for row, actions in enumerate(state["actions"].split(lengths)):
            self._episode[row], self._actions[row], self._over[row] = episodes[row], [], True
            if episodes[row] >= 0:
                self._show(row, self._replay(row, actions.tolist(), rows), rows)
        self.last = rows.record(self._missions, frames=0) if max(episodes) >= 0 else None
        self._verify(state["checksum"])

    def _replay(self, row: int, actions: list[int], rows: "_Rows") -> dict[str, Any]:
        observation = self._reset(row)
        for action in actions:
            observation = self._act(row, action, rows)
        return observation

    def _check(self, actions: list[int]) -> None:
        if len(actions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} actions, got {len(actions)}")
        for row, action in enumerate(actions):
            if not 0 <= action < self.spec.num_actions and not self._over[row]:
                raise ValueError(f"row {row}: action {action} is not below {self.spec.num_actions}")

    def _reset(self, row: int) -> dict[str, Any]:
        seed = self._seed_of(row, self._episode[row])
        try:
            observation = quiet_reset(self.envs[row], seed)
        except Exception as error:
            raise self._failure(row, "reset") from error
        self._over[row] = False
        return observation

    def _act(self, row: int, action: int, rows: "_Rows") -> dict[str, Any]:
        try:
            observation, reward, terminated, truncated, _ = self.envs[row].step(action)
            if not math.isfinite(reward):
                raise ValueError(f"reward is {reward}")
        except Exception as error:
            raise self._failure(row, f"step {len(self._actions[row])}, action {action}") from error
        self._actions[row].append(action)
        self._over[row] = terminated or truncated
        rows.stepped(row, action, float(reward), terminated, truncated)
        return observation

    def _show(self, row: int, observation: dict[str, Any], rows: "_Rows") -> None:
        image = observation["image"]
        if image.shape != rows.image.shape[1:] or image.dtype != np.uint8:
            raise self._failure(row, f"image is {image.dtype} {list(image.shape)}")
        rows.image[row] = image
        text = observation["mission"]
        # Encoded only when the text changes, which in MiniGrid is at resets.
        if text != self._texts[row]:
            self._texts[row] = text
            self._missions[row] = encode_mission(text)

    def _failure(self, row: int, moment: str) -> RuntimeError:
        episode = self._episode[row]
        where = f"row {row}, episode {episode}, seed {self._seed_of(row, episode)}, {moment}"
        return RuntimeError(f"environment {self.spec.id} failed ({where})")

    def _checksums(self) -> Tensor:
        if self.last is None:
            return torch.zeros(self.num_envs, dtype=torch.int64)
        parts = zip(self.last.image.numpy(), self.last.mission.numpy(), strict=True)
        sums = [zlib.crc32(mission.tobytes(), zlib.crc32(image.tobytes())) for image, mission in parts]
        return torch.tensor(sums, dtype=torch.int64)

    def _verify(self, expected: Tensor) -> None:
        for row in torch.nonzero(self._checksums() != expected).flatten().tolist():
            raise ConfigError(
                f"env: {self.spec.id} no longer shows what it showed when the run was saved (row {row}, "
                f"episode {self._episode[row]}); was minigrid or the environment changed?"
            )


class _Rows:
    """Arrays of a record under construction: new ones every step, so that none overwrites the last."""

    def __init__(self, num_envs: int, view: tuple[int, int]) -> None:
        self.image = np.zeros((num_envs, *view, 3), np.uint8)
        self.reward = np.zeros(num_envs, np.float32)
        self.terminated = np.zeros(num_envs, bool)
        self.truncated = np.zeros(num_envs, bool)
        self.previous_action = np.full(num_envs, -1)

    def stepped(self, row: int, action: int, reward: float, terminated: bool, truncated: bool) -> None:
        self.reward[row] = reward
        self.terminated[row] = terminated
        self.truncated[row] = truncated
        self.previous_action[row] = action

    def record(self, missions: np.ndarray, frames: int | None = None) -> Record:
        is_first = self.previous_action < 0
        return Record(
            image=torch.from_numpy(self.image),
            mission=torch.from_numpy(missions.copy()),
            reward=torch.from_numpy(self.reward),
            terminated=torch.from_numpy(self.terminated),
            truncated=torch.from_numpy(self.truncated),
            is_first=torch.from_numpy(is_first),
            previous_action=torch.from_numpy(self.previous_action),
            frames=len(is_first) - int(is_first.sum()) if frames is None else frames,
        )
