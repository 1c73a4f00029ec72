"""Collapse of the states without anything against it, as the monitors show it, and what each objective does about it.

python -m experiments.collapse.run --jobs 2
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from experiments.common import arms_of, guarded, study
from hjepa.eval.runs import RunData
from hjepa.log import tags

LAST = 5
"""Points at the end of a curve whose mean is a run's final value."""


@dataclass(frozen=True)
class Final:
    """The monitors of one level at the end of a run."""

    arm: str
    level: int
    std: float
    effective_rank: float
    within_episode_std: float
    prediction_energy: float


COLUMNS: dict[str, Callable[[Final], str]] = {
    "arm": lambda row: row.arm,
    "level": lambda row: str(row.level),
    "std": lambda row: f"{row.std:.4f}",
    "effective rank": lambda row: f"{row.effective_rank:.1f}",
    "std within an episode": lambda row: f"{row.within_episode_std:.4f}",
    "prediction energy": lambda row: f"{row.prediction_energy:.3f}",
}
MONITORS = (tags.STANDARD_DEVIATION, tags.EFFECTIVE_RANK, tags.WITHIN_EPISODE_STD, tags.PREDICTION_ENERGY)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train every arm, and show its monitors."""
    collapse = study(__file__, __doc__ or "", arguments)
    data = arms_of(collapse.train())
    rows = [Final(run.group, level, *final(run, level)) for run in data for level in (0, 1)]
    return collapse.finish(rows, COLUMNS, draw(data))


def final(run: RunData, level: int) -> list[float]:
    """The last values of the monitors."""
    return [float(run.curves[tag(level)].values[-LAST:].mean()) for tag in MONITORS]


def draw(data: Sequence[RunData]) -> Figure:
    """A row of panels a level, a panel a monitor of collapse, a line a run."""
    figure = Figure(figsize=(11, 6), dpi=100, layout="constrained")
    for level, row in enumerate(figure.subplots(2, 3)):
        for axes, tag in zip(row, MONITORS, strict=False):
            for number, arm in enumerate(dict.fromkeys(run.group for run in data)):
                for run in (run for run in data if run.group == arm):
                    curve = run.curves[tag(level)]
                    axes.plot(curve.frames, curve.values, color=f"C{number}", linewidth=1.2, label=arm)
            axes.set_title(tag(level), fontsize=9)
            axes.set(xlabel="environment frames", ylim=(0, None))
            axes.grid(alpha=0.25)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside right upper", fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(guarded(main))
