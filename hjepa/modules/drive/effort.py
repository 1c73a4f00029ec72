"""The drive to do no more than needed."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.nets import one_hot
from hjepa.types import AgentSpec, Signals


class EffortDrive(Drive):
    """The energy that the previous action cost."""

    class Config(ModuleConfig):
        """Settings of the effort drive."""

        slot: ClassVar[str] = "drive"
        kind: Literal["effort"] = "effort"
        costs: tuple[Annotated[float, Field(ge=0)], ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
        """Energy of each environment action, by number; in MiniGrid the last one is `done`."""

    costs: Tensor

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        """Raises ValueError where an action has no cost."""
        super().__init__()
        if len(config.costs) < spec.env.num_actions:
            raise ValueError(f"costs has {len(config.costs)} entries for {spec.env.num_actions} actions")
        self.register_buffer("costs", torch.tensor(config.costs[: spec.env.num_actions]))

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        # One-hot rows are zero where there was no previous action.
        return one_hot(signals.previous_action, self.costs.shape[0]) @ self.costs
