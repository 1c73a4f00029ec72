"""`hjepa eval`: a trained agent on held-out layouts, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hjepa.agent import Mode
from hjepa.config import ConfigError
from hjepa.envs.make import check_env_id
from hjepa.envs.seeds import held_out_seed
from hjepa.eval.load import load
from hjepa.eval.rollout import Episodes, decision_latency, run_episodes
from hjepa.eval.stats import percentile, wilson_interval
from hjepa.log.progress import LiveLine

LATENCY_DECISIONS = 64


@dataclass(frozen=True)
class Summary:
    """The one JSON object on the last line of `hjepa eval --json`; its fields are a promise to scripts."""

    env: str
    episodes: int
    success_rate: float
    success_ci95: tuple[float, float]
    """Wilson interval."""
    mean_return: float
    mean_length: float
    mode: Mode
    levels: int
    """How many levels acted, from the lowest."""
    frames_trained: int
    decision_ms_p50: float
    """Wall time of a decision for a single environment."""
    decision_ms_p95: float


def evaluate(
    run: Path,
    env_id: str | None,
    episodes: int,
    seed: int,
    mode: Mode,
    levels: int | None,
    as_json: bool,
) -> int:
    """Play `episodes` held-out layouts of suite `seed` and print what came of it; returns the exit status.

    `env_id` None is the run's own environment, `levels` None all of its levels. Results by episode go to
    RUN/eval/<env>_mode<m>_levels<l>_seed<s>.json, where `hjepa compare` finds them. Raises ConfigError for
    the user's mistakes.
    """
    if episodes < 1:
        raise ConfigError(f"--episodes: must be at least 1 (got {episodes})")
    loaded = load(run)
    name = env_id or loaded.config.env.id
    check_env_id(name)
    available = len(loaded.config.levels)
    if levels is not None and not 1 <= levels <= available:
        raise ConfigError(f"--levels: the run has {available} (got {levels})")
    seeds = [held_out_seed(seed, index) for index in range(episodes)]
    with LiveLine(episodes) as line:
        played = run_episodes(loaded.agent, name, seeds, mode, levels=levels, line=line)
    latency = decision_latency(loaded.agent, name, seeds[0], mode, levels, LATENCY_DECISIONS)
    successes = int(played.success.sum())
    summary = Summary(
        env=name,
        episodes=episodes,
        success_rate=successes / episodes,
        success_ci95=wilson_interval(successes, episodes),
        mean_return=float(played.returns.mean()),
        mean_length=float(played.lengths.mean()),
        mode=mode,
        levels=levels or available,
        frames_trained=loaded.frames,
        decision_ms_p50=percentile(latency, 50),
        decision_ms_p95=percentile(latency, 95),
    )
    _save(loaded.folder, summary, played, seed)
    _show(summary, run)
    if as_json:
        print(json.dumps(asdict(summary)))
    return 0


def result_name(env: str, mode: Mode, levels: int, seed: int) -> str:
    """File name of an evaluation's results within RUN/eval."""
    return f"{env.replace('/', '-')}_mode{mode}_levels{levels}_seed{seed}.json"


def _save(folder: Path, summary: Summary, played: Episodes, seed: int) -> None:
    content = {
        **asdict(summary),
        "suite_seed": seed,
        "evaluations_per_decision": played.evaluations,
        "seeds": played.seeds.tolist(),
        "returns": played.returns.tolist(),
        "lengths": played.lengths.tolist(),
    }
    target = folder / "eval" / result_name(summary.env, summary.mode, summary.levels, seed)
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(target)


def _show(summary: Summary, run: Path) -> None:
    low, high = summary.success_ci95
    table = Table(title=f"{run.name} on {summary.env}", show_header=False)
    rows = {
        "success": f"{summary.success_rate:.1%} (95 % interval {low:.1%} to {high:.1%})",
        "mean return": f"{summary.mean_return:.3f}",
        "mean length": f"{summary.mean_length:.1f} steps",
        "held-out episodes": str(summary.episodes),
        "mode": str(summary.mode),
        "levels": str(summary.levels),
        "trained for": f"{summary.frames_trained:,} frames",
        "decision": f"{summary.decision_ms_p50:.1f} ms median, {summary.decision_ms_p95:.1f} ms 95th percentile",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
