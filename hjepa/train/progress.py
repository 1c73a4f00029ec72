"""The live line of a run: frames, success, energies, frames/s, time left."""

from hjepa.log.progress import LiveLine

SHOWN = {"energy": "energy/total", "prediction": "level_0/prediction_energy", "loss": "loss/total"}
"""Scalars in the line, by what they are called there."""
EPISODES = 50
"""The last of them whose success is shown: those that succeed end first, and a few say nothing."""


class Progress:
    """Shows how far a run is and how it does."""

    def __init__(self, total: int, frames: int) -> None:
        self.total, self.line = total, LiveLine(total, frames)
        self.text = ""
        self.outcomes: list[tuple[float, float]] = []

    def show(self, scalars: dict[str, float]) -> None:
        """Take in the newest scalars; success comes with the number of episodes it is of."""
        if "train/success" in scalars:
            self.outcomes.append((scalars["train/episodes"], scalars["train/success"]))
        while sum(count for count, _ in self.outcomes[1:]) >= EPISODES:
            self.outcomes.pop(0)
        parts = []
        if self.outcomes:
            counted = sum(count for count, _ in self.outcomes)
            share = sum(count * success for count, success in self.outcomes) / counted
            parts.append(f"success {share:4.0%} of {counted:.0f}")
        for label, tag in SHOWN.items():
            if tag in scalars:
                parts.append(f"{label} {scalars[tag]:.3f}")
        if "speed/frames_per_second" in scalars:
            parts.append(f"{scalars['speed/frames_per_second']:.0f} frames/s")
        self.text = "  ".join(parts)

    def update(self, frames: int) -> None:
        """Move on to `frames`."""
        self.line.update(frames, f"{frames:,}/{self.total:,} frames  {self.text}")

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.line.stop()
