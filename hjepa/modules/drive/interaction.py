"""The drive to try things out: novelty of what was done to what."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.cost import interaction
from hjepa.interfaces import Drive, MemoryState, ShortTermMemory
from hjepa.modules.last_entry import last_code
from hjepa.types import AgentSpec, Signals


class InteractionDrive(Drive):
    """-1 / sqrt(n) when an interaction is done for the first time in an episode, n the episodes that saw it; else 0.

    An interaction is an action, what lay ahead when it was taken, and what was in hand (`cost.interaction`). Views are
    new in every layout and never run out, interactions are few and the same everywhere: the count of changes to the
    world generalises where that of its places does not (C-BET, Parisi et al. 2021). It is the deed that counts, not its
    effect, so that what does nothing yet is tried as well.
    """

    class Config(ModuleConfig):
        """Settings of the interaction drive: none."""

        slot: ClassVar[str] = "drive"
        kind: Literal["interaction"] = "interaction"

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__()

    def perceived(self, signals: Signals, memory: ShortTermMemory, contents: MemoryState) -> Float[Tensor, " B"]:
        # The deed is the last entry: what was seen there, and the action taken (as executed, `previous_action`).
        code, known = last_code(contents)
        times, episodes = memory.interacted(contents, interaction(code, signals.previous_action))
        fresh = known & ~signals.is_first & (times == 1)
        return torch.where(fresh, -torch.rsqrt(episodes.clamp_min(1).float()), 0.0)
