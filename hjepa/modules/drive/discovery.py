"""The drive to see more of the world."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.types import AgentSpec, Signals


class DiscoveryDrive(Drive):
    """Minus the share of the view that is new to perception's map in this episode.

    What can be discovered is bounded by the size of the world, however long an episode lasts, and it lies where the
    agent has not been: behind doors, not in another look at the same room (coverage, as in Chen et al. 2019).
    """

    class Config(ModuleConfig):
        """Settings of the discovery drive: none."""

        slot: ClassVar[str] = "drive"
        kind: Literal["discovery"] = "discovery"

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        return -signals.discovered
