"""What a run of the baseline came to: played on held-out layouts, kept as JSON, shown as a table."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hjepa.config import ConfigError
from hjepa.envs.seeds import held_out_seed
from hjepa.eval.rollout import ActingAgent, decision_latency, run_episodes
from hjepa.eval.stats import percentile, wilson_interval

FILE = "results.json"


@dataclass(frozen=True)
class Played:
    """Held-out episodes with one way to choose actions."""

    success_rate: float
    success_ci95: tuple[float, float]
    """Wilson interval."""
    mean_return: float
    mean_length: float
    """Environment steps of an episode."""
    decision_ms_p50: float
    """Wall time of a decision for a single environment."""


@dataclass(frozen=True)
class Result:
    """One run; its fields are those of results.json."""

    env: str
    seed: int
    frames: int
    """Environment steps trained for."""
    seconds: float
    """Wall time of training."""
    frames_to_90: int | None
    """Frames after which 90 % of the last 100 training episodes had succeeded; None where that was never so."""
    seconds_to_90: float | None
    episodes: int
    suite_seed: int
    greedy: Played
    sampled: Played
    hardware: str
    libraries: str
    commit: str
    command: str


def play(agent: ActingAgent, env_id: str, suite_seed: int, episodes: int) -> Played:
    """Play the held-out layouts that `hjepa eval --seed SUITE_SEED --episodes EPISODES` plays."""
    seeds = [held_out_seed(suite_seed, index) for index in range(episodes)]
    played = run_episodes(agent, env_id, seeds, mode=1)
    successes = int(np.sum(played.success))
    return Played(
        successes / episodes,
        wilson_interval(successes, episodes),
        float(played.returns.mean()),
        float(played.lengths.mean()),
        percentile(decision_latency(agent, env_id, seeds[0], mode=1), 50),
    )


def save(result: Result, folder: Path) -> None:
    """Write results.json into a run folder."""
    (folder / FILE).write_text(json.dumps(asdict(result), indent=1) + "\n")


def read(folder: Path) -> list[Result]:
    """The results of all runs in a folder, by environment and seed. ConfigError where there are none to read."""
    found = sorted(folder.glob(f"*/{FILE}"))
    if not found:
        raise ConfigError(f"{folder}: no results yet (no */{FILE})")
    return sorted(map(_read, found), key=lambda result: (result.env, result.seed))


def _read(path: Path) -> Result:
    try:
        content = json.loads(path.read_text())
        ways = {way: Played(**content[way]) for way in ("greedy", "sampled")}
        return Result(**(content | ways))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a result of this baseline ({error})") from error


COLUMNS: dict[str, Callable[[Result], str]] = {
    "environment": lambda row: row.env.removeprefix("MiniGrid-"),
    "seed": lambda row: str(row.seed),
    "frames": lambda row: f"{row.frames:,}",
    "wall": lambda row: f"{row.seconds:,.0f} s",
    "frames to 90 %": lambda row: "never" if row.frames_to_90 is None else f"{row.frames_to_90:,}",
    "wall to 90 %": lambda row: "never" if row.seconds_to_90 is None else f"{row.seconds_to_90:,.0f} s",
    "held out, greedy": lambda row: rate(row.greedy),
    "held out, sampled": lambda row: rate(row.sampled),
    "return, greedy / sampled": lambda row: f"{row.greedy.mean_return:.2f} / {row.sampled.mean_return:.2f}",
    "decision": lambda row: f"{row.greedy.decision_ms_p50:.1f} ms",
}


def rate(played: Played) -> str:
    """Success and its interval."""
    low, high = played.success_ci95
    return f"{played.success_rate:.1%} ({low:.0%} to {high:.0%})"


def origin(results: Sequence[Result]) -> dict[str, str]:
    """Where the results come from, in words; what differs between them is listed."""
    fields = ("commit", "libraries", "hardware", "command")
    return {name: ", ".join(sorted({getattr(result, name) for result in results})) for name in fields}
