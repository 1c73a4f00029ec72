"""Episodes out to Minari datasets and in from them. Minari is optional: `pip install hjepa[minari]`.

MiniGrid's missions are text in a space of its own, which Minari cannot store: the numbers of `envs.text` are
written in their place, and read back; a data set that holds the text is encoded on the way in.
"""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import torch

from hjepa.config import ConfigError
from hjepa.data.store import EpisodeStore
from hjepa.envs.text import MISSION_WORDS, encode_mission


@dataclass(frozen=True)
class Episode:
    """One whole episode of T steps: T + 1 observations, as Minari has it."""

    image: np.ndarray
    """uint8 [T + 1, W, V, 3]."""
    mission: np.ndarray
    """int64 [T + 1, Q]."""
    actions: np.ndarray
    """int64 [T]."""
    rewards: np.ndarray
    """float32 [T]."""
    terminations: np.ndarray
    """bool [T]."""
    truncations: np.ndarray
    """bool [T]."""


def require_minari(name: str = "minari") -> ModuleType:
    """Import Minari, or a module of it. Raises ConfigError, saying what to install, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name} is needed here ({error}); pip install hjepa[minari]") from error


def episodes(store: EpisodeStore) -> list[Episode]:
    """Every episode that the store holds from its first record to its last, stream by stream."""
    return [episode for row in range(store.num_envs) for episode in _stream_episodes(store, row)]


def export(store: EpisodeStore, dataset_id: str, env_id: str) -> Any:
    """Write the store's whole episodes to a new Minari dataset, and return it.

    Raises ConfigError where Minari is missing, or the store holds no whole episode.
    """
    minari = require_minari()
    buffer_class = require_minari("minari.data_collector.episode_buffer").EpisodeBuffer
    found = episodes(store)
    if not found:
        raise ConfigError("minari: the store holds no whole episode")
    return minari.create_dataset_from_buffers(
        dataset_id=dataset_id,
        buffer=[buffer_class(id=number, **minari_fields(episode)) for number, episode in enumerate(found)],
        env=env_id,
        observation_space=gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, found[0].image.shape[1:], np.uint8),
                "mission": gymnasium.spaces.Box(0, np.iinfo(np.int64).max, (MISSION_WORDS,), np.int64),
            }
        ),
    )


def load(dataset_id: str) -> list[Episode]:
    """Read every episode of a local Minari dataset. Raises ConfigError where Minari is missing."""
    return [episode_of(data) for data in require_minari().load_dataset(dataset_id).iterate_episodes()]


def minari_fields(episode: Episode) -> dict[str, Any]:
    """An episode as the fields of Minari's `EpisodeBuffer`."""
    return {
        "observations": {"image": episode.image, "mission": episode.mission},
        "actions": episode.actions,
        "rewards": episode.rewards.tolist(),
        "terminations": episode.terminations.tolist(),
        "truncations": episode.truncations.tolist(),
    }


def episode_of(data: Any) -> Episode:
    """An episode from Minari's `EpisodeData` or anything with those fields; missions are numbers or text."""
    return Episode(
        image=np.asarray(data.observations["image"], np.uint8),
        mission=mission_numbers(data.observations["mission"]),
        actions=np.asarray(data.actions, np.int64),
        rewards=np.asarray(data.rewards, np.float32),
        terminations=np.asarray(data.terminations, bool),
        truncations=np.asarray(data.truncations, bool),
    )


def mission_numbers(missions: np.ndarray | Iterable[str | bytes]) -> np.ndarray:
    """Missions as numbers, int64 [T + 1, Q]: text is encoded, numbers are kept."""
    if isinstance(missions, np.ndarray) and np.issubdtype(missions.dtype, np.integer):
        return missions.astype(np.int64)
    texts = [text.decode() if isinstance(text, bytes) else str(text) for text in missions]
    return np.stack([encode_mission(text) for text in texts])


def _stream_episodes(store: EpisodeStore, row: int) -> list[Episode]:
    place = (torch.tensor([row]), torch.tensor([store.oldest]), store.filled)
    windows = store.windows(*place)
    rewards = store.rewards(*place)[0].numpy()
    is_first = windows.is_first[0].numpy()
    ended = (windows.terminated | windows.truncated)[0].numpy()
    firsts, lasts = np.flatnonzero(is_first), np.flatnonzero(ended)
    result = []
    for first in firsts:
        following = lasts[lasts > first]
        if len(following) == 0:
            break
        whole, steps = slice(first, following[0] + 1), slice(first + 1, following[0] + 1)
        result.append(
            Episode(
                image=windows.observation.image[0].numpy()[whole],
                mission=windows.observation.mission[0].numpy()[whole],
                actions=windows.previous_action[0].numpy()[steps],
                rewards=rewards[steps],
                terminations=windows.terminated[0].numpy()[steps],
                truncations=windows.truncated[0].numpy()[steps],
            )
        )
    return result
