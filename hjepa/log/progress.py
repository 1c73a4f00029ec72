"""A live line on standard error: a bar where that is a terminal, else a plain line now and then."""

from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""Between two lines where standard error is not a terminal."""


class LiveLine:
    """Shows how far something is that goes from `done` to `total`, and how long it will yet take."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.started_at = total, done
        self.started = self.printed = perf_counter()
        self.console = Console(stderr=True)
        self.bar = None
        if self.console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=total, completed=done)
            self.bar.start()

    def update(self, done: int, text: str) -> None:
        """Move on to `done`, with so much to say."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=text)
        elif perf_counter() - self.printed > PLAIN_SECONDS:
            self.printed = perf_counter()
            self.console.print(f"{text}  {self._left(done)}", highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()

    def __enter__(self) -> "LiveLine":
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()

    def _left(self, done: int) -> str:
        new = done - self.started_at
        if new <= 0:
            return ""
        seconds = (perf_counter() - self.started) * max(self.total - done, 0) / new
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"
