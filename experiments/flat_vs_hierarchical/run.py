"""One level against two on DoorKey-5x5: train the sweep, then play the same held-out episodes and compare.

python experiments/flat_vs_hierarchical/run.py
"""

import sys
from pathlib import Path

from hjepa.cli import main as hjepa
from hjepa.config.sweep import combinations, read_sweep

SWEEP = Path(__file__).parent / "sweep.yaml"
EPISODES = "200"


def main() -> int:
    """Train what is not trained yet, evaluate every run in both modes, compare; the first failing status, or 0."""
    runs = [str(run.dir) for run in combinations(read_sweep(SWEEP))]
    commands = [["sweep", str(SWEEP)]]
    commands += [["eval", run, "--episodes", EPISODES, "--mode", mode] for run in runs for mode in ("1", "2")]
    commands += [["compare", *runs]]
    for command in commands:
        print("hjepa " + " ".join(command), flush=True)
        status = hjepa(command)
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
