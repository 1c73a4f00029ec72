"""One level against three on two environments: learning curves, and success on held-out episodes.

python -m experiments.flat_vs_hierarchical.run --jobs 2
"""

import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.common import arms_of, guarded, study
from experiments.outcomes import COLUMNS, draw_success, joined, outcomes
from hjepa.eval.compare import plot_curves, shared_tags

MODES = ("1", "2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train both arms, play held-out episodes in both modes, and compare."""
    levels = study(__file__, __doc__ or "", arguments, by_arm=True)
    runs = levels.train()
    levels.play(runs, MODES)
    rows, data = joined(levels, outcomes(runs, MODES, levels.episodes)), arms_of(runs)
    figure = Figure(figsize=(15, 5.5), dpi=90, layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_curves(left, data, shared_tags(data))
    draw_success(right, rows)
    return levels.finish(rows, COLUMNS, figure)


if __name__ == "__main__":
    sys.exit(guarded(main))
