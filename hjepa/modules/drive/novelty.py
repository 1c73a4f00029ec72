"""The drive to see new views, counted exactly in the short-term memory."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.cost import observation_code
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.types import AgentSpec, Signals


class NoveltyDrive(Drive):
    """-1 / sqrt(1 + n) at the first visit of a view in an episode, n the episodes it was met in; 0 at later visits.

    First visits alone never fade and lifetime counts alone stop exploration early: as in NovelD (Zhang et al.
    2021), an episodic restriction and a lifetime novelty are multiplied.
    """

    class Config(ModuleConfig):
        """Settings of the novelty drive: none."""

        slot: ClassVar[str] = "drive"
        kind: Literal["novelty"] = "novelty"

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        code = observation_code(signals.observation.image)
        bonus = torch.rsqrt(1.0 + memory.lifetime(contents, code))
        return torch.where(memory.count(contents, code) == 0, -bonus, 0.0)
