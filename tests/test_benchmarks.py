"""The speed table comes out whole from a tiny config, and mistakes are told in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = ("--repeats", "1", "--decisions", "2", "--rounds", "1", "--levels", "1", "2")


def speed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "benchmarks" / "speed.py")
    command = [sys.executable, script, "--config", str(ROOT / "configs" / "debug.yaml"), *arguments]
    command += ["--out", str(folder / "speed.md"), "--json", str(folder / "speed.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)


def test_the_tables_of_a_tiny_config(tmp_path: Path):
    result = speed(tmp_path, *TINY)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "speed.md").read_text().strip() == result.stdout.strip()
    found = json.loads((tmp_path / "speed.json").read_text())
    training = {row[0]: [float(cell) for cell in row[1:]] for row in found["training"][1:]}
    for updates, frames in zip(training["updates a second"], training["frames a second"], strict=True):
        assert frames == pytest.approx(8 * updates, rel=0.2)  # debug.yaml: 8 frames an update
    assert all(len(cells) == 2 for cells in training.values())
    assert len({len(row) for row in found["decisions"]}) == 1
    growth = {(row[0], row[1]): float(row[2]) for row in found["growth"][1:]}
    # Shooting predicts every step of every candidate.
    assert growth["candidates", "1024"] == 1024 * 4
    assert growth["horizon", "8"] == 256 * 8
    assert all(found[name] for name in ("command", "hardware", "torch", "commit"))


@pytest.mark.parametrize(
    "arguments", [("train.seeds=1",), ("levels.0.dim=0", "--parts", "growth"), ("--config", "absent.yaml")]
)
def test_mistakes_are_told_without_a_traceback(tmp_path: Path, arguments: tuple[str, ...]):
    result = speed(tmp_path, *arguments)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1 and "Traceback" not in result.stderr
    assert not (tmp_path / "speed.md").exists()
