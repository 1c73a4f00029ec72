"""Reacting, planning, or the actor's own choice between them: success, time and search of a decision.

python -m experiments.modes.run --jobs 2
"""

import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.common import dots, guarded, results, study
from experiments.outcomes import COLUMNS, outcomes

MODES = ("1", "2", "auto")
PANELS = {
    "success_rate": "success on held-out layouts",
    "decision_ms_p50": "median decision, ms",
    "evaluations_per_decision": "predictor evaluations a decision",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the seeds, play the same held-out episodes in every mode, and compare."""
    modes = study(__file__, __doc__ or "", arguments)
    runs = modes.train()
    modes.play(runs, MODES)
    figure = Figure(figsize=(11, 3.5), dpi=100, layout="constrained")
    for number, (axes, (field, title)) in enumerate(zip(figure.subplots(1, 3), PANELS.items(), strict=True)):
        played = {mode: [one for run in runs for one in results(run.folder, mode)] for mode in MODES}
        values = {
            f"mode {mode}": [one[field] for one in each if one["episodes"] == modes.episodes]
            for mode, each in played.items()
        }
        dots(axes, values, f"C{number}")
        axes.set(title=title, ylim=(0, None))
    return modes.finish(outcomes(runs, MODES, modes.episodes), COLUMNS, figure)


if __name__ == "__main__":
    sys.exit(guarded(main))
