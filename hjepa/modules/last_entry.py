"""What the drives that judge an action look back at: the last thing that was perceived in this episode."""

from jaxtyping import Bool, Int
from torch import Tensor

from hjepa.interfaces import MemoryState


def last_code(contents: MemoryState) -> tuple[Int[Tensor, " B"], Bool[Tensor, " B"]]:
    """Observation code of the last entry that was not imagined, and whether there is one."""
    time = contents.time.masked_fill(contents.imagined, -1)
    latest, place = time.max(1, keepdim=True)
    return contents.code.gather(1, place).squeeze(1), (latest >= 0).squeeze(1)
