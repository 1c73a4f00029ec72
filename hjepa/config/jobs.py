"""Commands of the package as processes of their own, several at a time, with a word on how far they are."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hjepa.config.core import ConfigError

WORD_SECONDS = 10.0
"""Between two words on the jobs that run."""


@dataclass(frozen=True)
class Job:
    """One command."""

    label: str
    arguments: tuple[str, ...]
    """What follows `hjepa` on the command line."""
    log: Path
    """Where its output goes while others run beside it."""


def run_jobs(jobs: Sequence[Job], parallel: int = 1) -> list[Job]:
    """Run every job, `parallel` at a time, and return those that failed.

    A single job at a time has the terminal; several write to their logs, whose last lines are shown. ConfigError
    where `parallel` is not positive.
    """
    if parallel < 1:
        raise ConfigError(f"--jobs: must be at least 1 (got {parallel})")
    if parallel > 1:
        return _side_by_side(jobs, parallel)
    failed = []
    for job in jobs:
        print(job.label, flush=True)
        if subprocess.run(_command(job), check=False).returncode != 0:
            failed.append(job)
    return failed


def _side_by_side(jobs: Sequence[Job], parallel: int) -> list[Job]:
    waiting, failed = list(jobs), []
    running: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    told = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                job = waiting.pop(0)
                print(f"{job.label}: output in {job.log}", flush=True)
                running[job.label] = job, _start(job)
            time.sleep(0.1)
            for label, (job, process) in list(running.items()):
                if process.poll() is not None:
                    del running[label]
                    print(f"{label}: {'done' if process.returncode == 0 else last_line(job.log)}", flush=True)
                    failed += [job] if process.returncode != 0 else []
            if time.monotonic() - told > WORD_SECONDS:
                told = time.monotonic()
                for label, (job, _) in running.items():
                    print(f"{label}: {last_line(job.log)}", flush=True)
    finally:
        for _, process in running.values():
            process.terminate()
            process.wait()
    return failed


def last_line(log: Path) -> str:
    """The last line with anything in it; empty where there is none."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _start(job: Job) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as file:
        return subprocess.Popen(_command(job), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def _command(job: Job) -> list[str]:
    return [sys.executable, "-m", "hjepa", *job.arguments]
