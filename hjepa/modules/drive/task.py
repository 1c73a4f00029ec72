"""The drive to get the task's reward."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.types import AgentSpec, Signals


class TaskDrive(Drive):
    """Energy -reward: a reward of +1 is an energy of -1. Its scale is set by its weight alone."""

    class Config(ModuleConfig):
        """Settings of the task drive: none."""

        slot: ClassVar[str] = "drive"
        kind: Literal["task"] = "task"

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        return -signals.reward
