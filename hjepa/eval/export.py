"""`hjepa export`: what playing needs of a run, and nothing that training does, small enough to be sent to others."""

import json
import shutil
from pathlib import Path

from hjepa.config import ConfigError, dump, load_run
from hjepa.data import checkpoint
from hjepa.eval.load import AVERAGES, newest
from hjepa.log.probe import PROBE_FILE

KEPT = ("hjepa", "commit", "changed_files", "python", "torch", "gpu", "seed")
"""What of a run's provenance goes along: not the machine, and not where its files lay."""


def export(run: Path, target: Path) -> int:
    """Write the newest good checkpoint's weights with config, provenance and probe to a new run folder.

    `eval`, `watch` and `diagnose` work on it; training cannot go on from it. Raises ConfigError where `target` exists
    or `run` holds nothing usable.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists; name another folder")
    config = load_run(run)
    tensors, meta = newest(run)
    # A path of this machine says nothing to others.
    config = config.model_copy(update={"run": config.run.model_copy(update={"dir": target.name})})
    target.mkdir(parents=True)
    (target / "config.yaml").write_text(dump(config), encoding="utf-8")
    weights = {name: value for name, value in tensors["agent"].items() if not name.startswith(AVERAGES)}
    kept = {"frames": meta["frames"], "update": meta["update"]}
    checkpoint.save(target / "checkpoints", int(meta["update"]), {"agent": weights}, kept, keep=1)
    if (run / "provenance.json").is_file():
        origin = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
        shown = {name: origin[name] for name in KEPT if name in origin}
        (target / "provenance.json").write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")
    if (run / PROBE_FILE).is_file():
        shutil.copyfile(run / PROBE_FILE, target / PROBE_FILE)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.1f} MB, {meta['frames']:,} frames of training")
    return 0
