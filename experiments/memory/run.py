"""What memory is worth: perception without and with it, and drives without and with counts kept in memory.

python -m experiments.memory.run --jobs 2
"""

import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.common import arms_of, guarded, study
from experiments.outcomes import COLUMNS, draw_success, outcomes
from hjepa.eval.compare import plot_curves, shared_tags

MODES = ("1", "2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train every arm, play held-out episodes in both modes, and compare."""
    memory = study(__file__, __doc__ or "", arguments)
    runs = memory.train()
    memory.play(runs, MODES)
    rows, data = outcomes(runs, MODES, memory.episodes), arms_of(runs)
    figure = Figure(figsize=(12, 4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_curves(left, data, shared_tags(data))
    draw_success(right, rows)
    right.tick_params(axis="x", rotation=20)
    return memory.finish(rows, COLUMNS, figure)


if __name__ == "__main__":
    sys.exit(guarded(main))
