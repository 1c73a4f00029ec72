"""The guardrail: never walk into a hazard."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.cost import object_ahead, observation_code
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.modules.last_entry import last_code
from hjepa.types import AgentSpec, Signals

FORWARD = 2
NUMBERS = {"wall": 2, "ball": 6, "lava": 9}
"""MiniGrid's object numbers."""


class GuardrailDrive(Drive):
    """1 in the step that walked into a hazard, `warning` where one lies directly ahead, else 0.

    The view never shows what the agent stands on, so that stepping into lava is read from two records: the
    memory's last entry, whose code tells what lay ahead, and the action that led here.
    """

    guardrail: ClassVar[bool] = True

    class Config(ModuleConfig):
        """Settings of the guardrail."""

        slot: ClassVar[str] = "drive"
        kind: Literal["guardrail"] = "guardrail"
        hazards: tuple[Literal["lava", "ball", "wall"], ...] = ("lava",)
        """What must not be walked into; moving obstacles are balls."""
        warning: float = Field(0.0, ge=0, le=1)
        """Energy of facing a hazard."""

    hazards: Tensor

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()
        self.warning = config.warning
        self.register_buffer("hazards", torch.tensor([NUMBERS[name] for name in config.hazards], dtype=torch.int64))

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        before, known = last_code(contents)
        entered = known & ~signals.is_first & (signals.previous_action == FORWARD) & self._hazard(before)
        facing = self._hazard(observation_code(signals.observation.image))
        return torch.where(entered, 1.0, self.warning * facing)

    def predicted(self, readout: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """A guardrail never pays, whatever the readout says."""
        return readout.clamp_min(0.0)

    def _hazard(self, code: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        return torch.isin(object_ahead(code), self.hazards)
