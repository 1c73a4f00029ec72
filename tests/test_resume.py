"""A run that is killed at any moment and resumed ends with the weights of one that was left alone, to the bit."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from hjepa.data import checkpoint
from hjepa.log.metrics import read_metrics

KILLS = 10
CHECKPOINT_EVERY = 40
OVERRIDES = [f"train.checkpoint_every={CHECKPOINT_EVERY}", "train.frames=600", "train.threads=1", "log.strips_every=0"]


def command(run_dir: Path, resume: bool) -> list[str]:
    """The command line of a debug run, or of its resumption; saves take a good part of its time."""
    verb = [sys.executable, "-m", "hjepa", "train"]
    if resume:
        return [*verb, "--resume", str(run_dir)]
    return [*verb, "configs/debug.yaml", f"run.dir={run_dir}", *OVERRIDES]


def run_to_end(run_dir: Path, resume: bool = False) -> None:
    subprocess.run(command(run_dir, resume), check=True, capture_output=True, timeout=300)


def newest(run_dir: Path) -> Path | None:
    """The newest checkpoint folder there is by now."""
    found = checkpoint.checkpoints(run_dir / "checkpoints")
    return found[-1] if found else None


def seconds_a_save(run_dir: Path) -> float:
    """How long a finished run took from one checkpoint to the next, at its usual speed."""
    return CHECKPOINT_EVERY / float(np.median(read_metrics(run_dir / "metrics.csv")["speed/frames_per_second"].values))


def killed_after(run_dir: Path, resume: bool, longest: float, chance: random.Random, sign: int) -> int:
    """Start, wait until it has saved anew, and send the signal up to `longest` seconds later; the exit status."""
    before = newest(run_dir)
    process = subprocess.Popen(command(run_dir, resume), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and newest(run_dir) == before:
        time.sleep(0.005)
    time.sleep(chance.random() * longest)
    if process.poll() is None:
        os.kill(process.pid, sign)
    return process.wait(timeout=60)


def weights(run_dir: Path) -> dict[str, str]:
    """Checksum of every file of the last checkpoint that holds what was learned or collected."""
    folder = newest(run_dir)
    assert folder is not None
    result = {}
    for name in ("agent", "optimizer", "collector", "environments"):
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            for key in sorted(file.keys()):
                content = file.get_tensor(key).contiguous().numpy().tobytes()
                result[f"{name}/{key}"] = hashlib.sha256(content).hexdigest()
    return result


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    run_to_end(run_dir)
    return run_dir


@pytest.mark.slow
def test_ten_kills_end_in_the_undisturbed_weights(undisturbed: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    longest = 1.2 * seconds_a_save(undisturbed)  # so that a kill may fall into the next save, and ten into the run
    run_dir = tmp_path / "run"
    killed = 0
    while killed < KILLS:
        status = killed_after(run_dir, run_dir.exists(), longest, chance, signal.SIGKILL)
        if status == 0:
            break
        killed += 1
    run_to_end(run_dir, resume=True)
    assert killed >= KILLS - 2
    assert weights(run_dir) == weights(undisturbed)
    ours, theirs = read_metrics(run_dir / "metrics.csv"), read_metrics(undisturbed / "metrics.csv")
    timed = ("speed/", "time_share/")
    for tag in theirs:
        if not tag.startswith(timed):
            assert ours[tag].frames.tolist() == theirs[tag].frames.tolist(), tag
            assert str(ours[tag].values.tolist()) == str(theirs[tag].values.tolist()), tag


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_143(undisturbed: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert killed_after(run_dir, False, 0.5, random.Random(1), signal.SIGTERM) in (143, -15)
    run_to_end(run_dir, resume=True)
    assert weights(run_dir) == weights(undisturbed)
