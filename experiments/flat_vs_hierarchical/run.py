"""One, two and three levels on the same environments: learning curves, and success on held-out episodes.

python -m experiments.flat_vs_hierarchical.run --jobs 2
"""

import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.common import TrainedRun, arms_of, guarded, study
from experiments.outcomes import COLUMNS, Outcome, draw_success, joined, outcomes
from hjepa.config import load
from hjepa.eval.compare import plot_curves, shared_tags
from hjepa.eval.runs import RunData

MODES = ("1", "2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the arms, play held-out episodes in both modes, and compare."""
    levels = study(__file__, __doc__ or "", arguments, by_arm=True)
    runs = levels.train()
    levels.play(runs, MODES)
    rows = joined(levels, outcomes(runs, MODES, levels.episodes))
    return levels.finish(rows, COLUMNS, picture(runs, rows))


def picture(runs: Sequence[TrainedRun], rows: Sequence[Outcome]) -> Figure:
    """Learning curves, a panel for each environment that has any, over what every arm came to."""
    learned: dict[str, list[RunData]] = {}
    for trained, data in zip(runs, arms_of(runs), strict=True):
        if data.curves:
            learned.setdefault(load(trained.folder / "config.yaml").env.id, []).append(data)
    figure = Figure(figsize=(15, 10), dpi=90, layout="constrained")
    grid = figure.add_gridspec(2, max(len(learned), 1))
    for number, (name, each) in enumerate(learned.items()):
        axes = figure.add_subplot(grid[0, number])
        plot_curves(axes, each, shared_tags(each))
        axes.set_title(name)
    draw_success(figure.add_subplot(grid[1, :]), rows)
    return figure


if __name__ == "__main__":
    sys.exit(guarded(main))
