"""The live line of a run: frames, success, energies, frames/s, time left."""

from hjepa.log.progress import LiveLine

SHOWN = {"energy": "energy/total", "prediction": "level_0/prediction_energy", "loss": "loss/total"}
"""Scalars in the line, by what they are called there."""


class Progress:
    """Shows how far a run is and how it does."""

    def __init__(self, total: int, frames: int) -> None:
        self.total, self.line = total, LiveLine(total, frames)
        self.text = ""
        self.success: list[float] = []

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
        self.line.update(frames, f"{frames:,}/{self.total:,} frames  {self.text}")

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.line.stop()
