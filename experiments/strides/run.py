"""How long a step of the upper level should be: strides 2, 4, 8 and 16, all else equal.

python -m experiments.strides.run --jobs 2
"""

import sys
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import arms_of, guarded, study
from experiments.outcomes import COLUMNS, draw_success, outcomes
from hjepa.eval.compare import plot_curves, shared_tags
from hjepa.eval.runs import RunData
from hjepa.log import tags

MODES = ("1", "2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train every stride, play held-out episodes in both modes, and compare."""
    strides = study(__file__, __doc__ or "", arguments)
    runs = strides.train()
    strides.play(runs, MODES)
    rows, data = outcomes(runs, MODES, strides.episodes), arms_of(runs)
    figure = Figure(figsize=(15, 4), dpi=100, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    plot_curves(left, data, shared_tags(data))
    draw_success(middle, rows)
    draw_reach(right, data)
    return strides.finish(rows, COLUMNS, figure)


def draw_reach(axes: Axes, data: Sequence[RunData]) -> None:
    """Share of subgoals that level 0 reaches in time, while training."""
    tag = tags.SUBGOAL_REACH_RATE(0)
    plot_curves(axes, data, [tag])
    axes.set(ylabel="subgoals reached in time")


if __name__ == "__main__":
    sys.exit(guarded(main))
