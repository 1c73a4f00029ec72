"""Run folders as data: curves, held-out results, and which runs differ in their seed only. Needs no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hjepa.config import ConfigError
from hjepa.log.metrics import Curve, read_metrics

SUCCESS_TAGS = ("held_out/success_mode_2", "held_out/success_mode_1", "held_out/success", "train/success")
"""A run's learning curve is the first of these that it has."""
CHANCE = ("seed", "threads", "checkpoint_every", "keep_checkpoints")
"""Settings of `train` in which the runs of a group may differ."""
EPISODES = 50
"""Episodes over which success in training is averaged, as far as their number is known: the first few to end are those
that succeed."""
LABEL_WIDTH = 40
"""Characters up to which a group is called by its settings."""
SMOOTHING = 5
"""Points over which a success curve is averaged before it is compared with a threshold."""


@dataclass(frozen=True)
class RunData:
    """What could be read of a run folder."""

    name: str
    group: str
    """Names the config apart from seed and run folder; runs of a group differ by chance alone."""
    label: str
    """The group in a few words."""
    settings: dict[str, Any]
    """The settings in which the groups differ, by dotted key; empty without a readable config."""
    curves: dict[str, Curve]
    results: dict[str, dict[str, Any]]
    """`seeds` and `returns` of RUN/eval/*.json by file name."""
    notes: tuple[str, ...]
    """What could not be read, a line each."""

    def success(self, tags: Sequence[str]) -> Curve | None:
        """The learning curve: the first of `tags` that there is."""
        return next((self.curves[tag] for tag in tags if tag in self.curves), None)


def read_runs(folders: Sequence[Path]) -> list[RunData]:
    """Read runs as far as they go, and name their groups. Raises ConfigError where a folder does not exist."""
    configs: list[dict[str, Any]] = []
    read = []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such run folder")
        notes: list[str] = []
        configs.append(_config(folder, notes))
        read.append((_curves(folder, notes), _results(folder, notes), notes))
    names, settings = _names(folders), differing_settings(configs)
    groups = group_names(settings, configs, names)
    labels = group_labels(groups, names)
    return [
        RunData(name, group, labels[group], setting, curves, results, tuple(notes))
        for name, group, setting, (curves, results, notes) in zip(names, groups, settings, read, strict=True)
    ]


def group_names(
    settings: Sequence[dict[str, Any]], configs: Sequence[dict[str, Any]], names: Sequence[str]
) -> list[str]:
    """Name each run by the settings in which the groups differ, such as `levels.1.stride=8`.

    A run without config is a group of its own.
    """
    texts = [", ".join(f"{key}={value}" for key, value in one.items()) for one in settings]
    return [text or "all" if config else name for text, config, name in zip(texts, configs, names, strict=True)]


def group_labels(groups: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Each group in a few words: by its settings where they are few, else by its runs."""
    if all(len(group) <= LABEL_WIDTH for group in groups):
        return {group: group for group in groups}
    members = {group: [name for one, name in zip(groups, names, strict=True) if one == group] for group in groups}
    return {
        group: runs[0] if len(runs) == 1 else f"{runs[0]} and {len(runs) - 1} more" for group, runs in members.items()
    }


def differing_settings(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each config, the settings in which they differ; the seed, and what is only shown, make no difference."""
    flat = [_flatten(_without_chance(config)) for config in configs]
    keys = sorted({key for one in flat if one for key in one})
    both = list(zip(flat, configs, strict=True))
    known = [one for one, config in both if config]
    differing = [key for key in keys if len({repr(one.get(key)) for one in known}) > 1]
    return [{key: one[key] for key in differing if key in one} if config else {} for one, config in both]


def smoothed(curve: Curve) -> Curve:
    """Mean over the last `SMOOTHING` points."""
    sums = np.cumsum(np.concatenate([[0.0], curve.values]))
    ends = np.arange(1, len(curve.values) + 1)
    begins = np.maximum(ends - SMOOTHING, 0)
    return Curve(curve.frames, (sums[ends] - sums[begins]) / (ends - begins))


def over_episodes(success: Curve, episodes: Curve) -> Curve:
    """Success over the last `EPISODES` episodes at every row from which on there are as many; all rows have both."""
    counts = episodes.values
    total = np.concatenate([[0.0], np.cumsum(counts)])
    won = np.concatenate([[0.0], np.cumsum(counts * success.values)])
    # The latest row such that the rows after it hold enough episodes.
    begin = np.searchsorted(total, total[1:] - EPISODES, side="right") - 1
    enough = total[1:] >= EPISODES
    rate = (won[1:] - won[begin]) / np.maximum(total[1:] - total[begin], 1.0)
    return Curve(success.frames[enough], rate[enough])


def frames_to(curve: Curve, threshold: float) -> int | None:
    """Frames at which the smoothed curve first reaches the threshold; None where it never does.

    The first points do not count before there are `SMOOTHING` of them, unless the whole curve is shorter.
    """
    values = smoothed(curve).values
    enough = np.arange(1, len(values) + 1) >= min(SMOOTHING, len(values))
    reached = np.flatnonzero((values >= threshold) & enough)
    return int(curve.frames[reached[0]]) if len(reached) else None


def common_grid(curves: Sequence[Curve], points: int = 100) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "R P"]]:
    """Smoothed curves of a group on the frames that all of them cover."""
    first = max(int(curve.frames[0]) for curve in curves)
    last = min(int(curve.frames[-1]) for curve in curves)
    grid = np.linspace(first, max(first, last), points)
    values = [np.interp(grid, curve.frames, smoothed(curve).values) for curve in curves]
    return grid, np.stack(values)


def _curves(folder: Path, notes: list[str]) -> dict[str, Curve]:
    try:
        curves = read_metrics(folder / "metrics.csv")
    except OSError:
        notes.append(f"{folder.name}: no metrics.csv, so no learning curve")
        return {}
    counted = ("train/success", "train/episodes")
    if all(tag in curves for tag in counted) and len(curves[counted[0]].frames) == len(curves[counted[1]].frames):
        recent = over_episodes(curves[counted[0]], curves[counted[1]])
        # Those that succeed end first: what there is before says nothing.
        curves[counted[0]] = recent
        if not len(recent.frames):
            del curves[counted[0]]
            notes.append(f"{folder.name}: fewer than {EPISODES} training episodes ended, so none is drawn")
    if not any(tag in curves for tag in SUCCESS_TAGS):
        notes.append(f"{folder.name}: metrics.csv has none of {', '.join(SUCCESS_TAGS)}, so no learning curve")
    return curves


def _config(folder: Path, notes: list[str]) -> dict[str, Any]:
    try:
        loaded = YAML(typ="safe", pure=True).load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, YAMLError):
        loaded = None
    if not isinstance(loaded, dict):
        notes.append(f"{folder.name}: no readable config.yaml, compared as a group of its own")
        return {}
    return loaded


def _results(folder: Path, notes: list[str]) -> dict[str, dict[str, Any]]:
    results = {}
    for path in sorted((folder / "eval").glob("*.json")):
        try:
            results[path.name] = _result(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            notes.append(f"{folder.name}: eval/{path.name} is not a result of `hjepa eval`, left out")
    return results


def _result(content: dict[str, Any]) -> dict[str, Any]:
    # Only what is compared is looked at, so that results of other versions are read too.
    seeds, returns = content["seeds"], content["returns"]
    if len(seeds) != len(returns):
        raise ValueError("seeds and returns differ in number")
    return {"seeds": [int(seed) for seed in seeds], "returns": [float(value) for value in returns]}


def _names(folders: Sequence[Path]) -> list[str]:
    # As short as tells them apart.
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _without_chance(config: dict[str, Any]) -> dict[str, Any]:
    # Neither do what is shown of a run, and where it is kept, change what it learns.
    train = config.get("train")
    kept = {key: value for key, value in train.items() if key not in CHANCE} if isinstance(train, dict) else train
    rest = {key: value for key, value in config.items() if key not in ("run", "eval", "log", "train")}
    return {**rest, "train": kept}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else key)
    return flat
