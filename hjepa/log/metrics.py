"""metrics.csv: every scalar of a run in long format, `frames,tag,value`; survives kills and resumes."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

HEADER = ("frames", "tag", "value")


class Curve(NamedTuple):
    """One tag over time."""

    frames: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]


class MetricsFile:
    """Appends rows, whole and flushed, so that a killed process leaves at most one torn last line."""

    def __init__(self, path: Path, purge_step: int | None = None) -> None:
        """Open for appending. Rows beyond `purge_step` frames and torn rows are dropped first."""
        if path.exists():
            _rewrite(path, purge_step)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(",".join(HEADER) + "\n")
        self._file = path.open("a", newline="")

    def append(self, values: Mapping[str, float], frames: int) -> None:
        """One row a tag; nan and inf are written as such."""
        rows = (f"{frames},{tag},{value!r}\n" for tag, value in values.items())
        self._file.write("".join(rows))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> dict[str, Curve]:
    """Curves by tag, in the order of their frames. Torn rows are skipped. Raises FileNotFoundError."""
    points: dict[str, list[tuple[int, float]]] = {}
    for frames, tag, value in _rows(path):
        points.setdefault(tag, []).append((frames, value))
    curves = {}
    for tag, pairs in points.items():
        ordered = sorted(pairs, key=lambda pair: pair[0])
        frames_column, values_column = zip(*ordered, strict=True)
        curves[tag] = Curve(np.array(frames_column, dtype=np.int64), np.array(values_column, dtype=float))
    return curves


def _rows(path: Path) -> list[tuple[int, str, float]]:
    rows = []
    for line in path.read_text(errors="replace").splitlines(keepends=True):
        fields = next(csv.reader([line]), [])
        if line.endswith("\n") and len(fields) == 3 and fields[0].isdigit():
            try:
                rows.append((int(fields[0]), fields[1], float(fields[2])))
            except ValueError:
                continue
    return rows


def _rewrite(path: Path, purge_step: int | None) -> None:
    # Through a neighbour and a rename: a kill leaves the old file or the new one, never half of it.
    kept = [row for row in _rows(path) if purge_step is None or row[0] <= purge_step]
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        file.write(",".join(HEADER) + "\n")
        file.writelines(f"{frames},{tag},{value!r}\n" for frames, tag, value in kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
