"""The live line of a run: frames, success, energies, frames/s, time left; plain lines where there is no terminal."""

from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

SHOWN = {"energy": "energy/total", "prediction": "level_0/prediction_energy", "loss": "loss/total"}
"""Scalars in the line, by what they are called there."""
PLAIN_SECONDS = 10.0
"""Between two lines where standard error is not a terminal."""


class Progress:
    """Shows how far a run is and how it does."""

    def __init__(self, total: int, frames: int) -> None:
        self.total, self.frames = total, frames
        self.started, self.started_at, self.printed = perf_counter(), frames, 0.0
        self.text = ""
        self.success: list[float] = []
        console = Console(stderr=True)
        self.bar = None
        if console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
            self.bar = RichProgress(*columns, console=console)
            self.task = self.bar.add_task("", total=total, completed=frames)
            self.bar.start()
        self.console = console

    def show(self, scalars: dict[str, float]) -> None:
        """Take in the newest scalars."""
        self.success = [*self.success, scalars["train/success"]][-5:] if "train/success" in scalars else self.success
        parts = []
        if self.success:
            parts.append(f"success {sum(self.success) / len(self.success):4.0%}")
        for label, tag in SHOWN.items():
            if tag in scalars:
                parts.append(f"{label} {scalars[tag]:.3f}")
        if "speed/frames_per_second" in scalars:
            parts.append(f"{scalars['speed/frames_per_second']:.0f} frames/s")
        self.text = "  ".join(parts)

    def update(self, frames: int) -> None:
        """Move on to `frames`."""
        self.frames = frames
        description = f"{frames:,}/{self.total:,} frames  {self.text}"
        if self.bar is not None:
            self.bar.update(self.task, completed=frames, description=description)
        elif perf_counter() - self.printed > PLAIN_SECONDS:
            self.printed = perf_counter()
            self.console.print(f"{description}  {self._left()}", highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()

    def _left(self) -> str:
        done = self.frames - self.started_at
        if done <= 0:
            return ""
        seconds = (perf_counter() - self.started) * max(self.total - self.frames, 0) / done
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"
