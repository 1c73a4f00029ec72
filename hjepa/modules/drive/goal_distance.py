"""The drive toward the task's goal state."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.types import AgentSpec, Signals


class GoalDistanceDrive(Drive):
    """Euclidean distance of the level-0 state to the goal, over sqrt(D); 0 where there is no goal."""

    class Config(ModuleConfig):
        """Settings of the goal drive: none."""

        slot: ClassVar[str] = "drive"
        kind: Literal["goal_distance"] = "goal_distance"

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        distance = torch.linalg.vector_norm(signals.state - signals.goal, dim=-1)
        return torch.where(signals.has_goal, distance / signals.state.shape[-1] ** 0.5, 0.0)
