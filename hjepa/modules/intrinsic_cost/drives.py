"""The intrinsic cost: a list of drives."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig, Slot, choose, number_repeats
from hjepa.interfaces import Drive, IntrinsicCost, MemoryState, ShortTermMemory
from hjepa.types import AgentSpec, Signals


class DrivesCost(IntrinsicCost):
    """IC_1 ... IC_U side by side, without a trainable parameter (L22 section 3.2)."""

    class Config(ModuleConfig):
        """Settings of the intrinsic cost."""

        slot: ClassVar[str] = "intrinsic_cost"
        kind: Literal["drives"] = "drives"
        drives: tuple[Annotated[ModuleConfig, Slot("drive")], ...] = (
            choose("drive", "task"),
            choose("drive", "novelty"),
            choose("drive", "guardrail"),
        )
        """The terms, in the order of the weights."""
        floors: dict[str, Annotated[float, Field(ge=0)]] = Field({})
        """Least weight of a guardrail, by its name; 1 where none is given."""

    floors: Tensor

    def __init__(self, config: Config, spec: AgentSpec, drives: list[Drive]) -> None:
        """Raises ValueError where a drive has parameters or a floor is set for what is not a guardrail."""
        super().__init__()
        self.drives = nn.ModuleList(drives)
        self.names = number_repeats([drive.kind for drive in config.drives])
        guardrails = [name for name, drive in zip(self.names, drives, strict=True) if drive.guardrail]
        if unknown := sorted(set(config.floors) - set(guardrails)):
            raise ValueError(
                f"floors: {unknown[0]!r} is not a guardrail (guardrails: {', '.join(guardrails) or 'none'})"
            )
        for name, drive in zip(self.names, drives, strict=True):
            if any(True for _ in drive.parameters()):
                raise ValueError(f"drive {name!r} has parameters: the intrinsic cost never learns")
        floors = [config.floors.get(name, 1.0) if name in guardrails else 0.0 for name in self.names]
        self.register_buffer("floors", torch.tensor(floors))

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, "B U"]:
        energies = [drive.perceived(signals, memory, contents) for drive in self.drives]  # type: ignore[operator]
        return torch.stack(energies, -1)

    def predicted(self, readouts: Float[Tensor, "*B U"]) -> Float[Tensor, "*B U"]:
        pairs = zip(self.drives, readouts.unbind(-1), strict=True)
        return torch.stack([drive.predicted(readout) for drive, readout in pairs], -1)  # type: ignore[operator]

    def clamp(self, weights: Float[Tensor, "*B U"]) -> Float[Tensor, "*B U"]:
        return torch.maximum(weights, self.floors)
