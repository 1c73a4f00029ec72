"""Trains every kind of every slot on the debug preset, one after the other, and prints a table.

python benchmarks/every_kind.py [UPDATES] [key=value ...]
"""

import sys
import tempfile
import traceback
from math import isfinite
from pathlib import Path
from time import perf_counter

from hjepa.config import load
from hjepa.config.registry import SLOTS, kinds
from hjepa.log.metrics import read_metrics
from hjepa.train.run import train

CONFIG = Path(__file__).parent.parent / "configs" / "debug.yaml"
PATHS = {
    "encoder": "world_model.encoder.kind={kind}",
    "action_encoder": "world_model.action_encoder.kind={kind}",
    "predictor": "world_model.predictor.kind={kind}",
    "objective": "world_model.objective.kind={kind}",
    "latent": "world_model.latent.kind={kind}",
    "planner": "levels.1.planner.kind={kind}",
    "policy": "actor.policy.kind={kind}",
}
"""Where a slot that is not at the top of the config is filled."""


def override(slot: str, kind: str) -> list[str]:
    """What is written on the command line to have this kind."""
    if slot == "drive":
        names = dict.fromkeys(("task", "novelty", kind))
        return [f"intrinsic_cost.drives=[{', '.join(f'{{kind: {name}}}' for name in names)}]"]
    if (slot, kind) == ("action_encoder", "discrete"):
        return []  # level 0's own, whatever the config says of the levels above
    return [PATHS.get(slot, f"{slot}.kind={{kind}}").format(kind=kind)]


def outcome(overrides: list[str], updates: int, folder: Path) -> str:
    """First and last total loss and the seconds that a run took, or how it failed."""
    prefill = load(CONFIG, overrides).train
    frames = prefill.prefill + updates * prefill.frames_per_update
    start = perf_counter()
    try:
        status = train(load(CONFIG, [*overrides, f"run.dir={folder}", f"train.frames={frames}"]), folder)
    except Exception as error:  # whatever a kind raises belongs in the table
        traceback.print_exc()
        return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:80]}"
    curve = read_metrics(folder / "metrics.csv")["loss/total"].values
    good = status == 0 and all(isfinite(value) for value in curve)
    return f"{'ok' if good else 'FAILED'}  {curve[0]:10.3f} {curve[-1]:10.3f} {perf_counter() - start:8.1f}"


def main(arguments: list[str]) -> int:
    """Print a line a kind; the status is 1 where one failed."""
    updates = int(arguments[0]) if arguments else 200
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for slot in SLOTS:
            for kind in kinds(slot):
                result = outcome([*arguments[1:], *override(slot, kind)], updates, Path(folder) / slot / kind)
                lines.append(f"{slot:<16}{kind:<14}{result}")
                print(lines[-1], file=sys.stderr, flush=True)
    print(f"{'slot':<16}{'kind':<14}{'':<4}{'first loss':>10} {'last loss':>10} {'seconds':>8}")
    print("\n".join(lines))
    return int(any("ok" not in line for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
