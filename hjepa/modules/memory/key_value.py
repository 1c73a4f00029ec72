"""Short-term memory with soft reads, soft writes and allocation of slots (L22 eq. 15-20)."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import MemoryEntry, MemoryState
from hjepa.modules.episode_log import EpisodeLog, needs_gradient, put, recall_weights
from hjepa.types import AgentSpec


@dataclass(frozen=True)
class _Slots(MemoryState):
    """The log of the episode, and beside it the associative slots that reads and writes blend."""

    slot_keys: Float[Tensor, "B R D"]
    """Of length 1."""
    slot_values: Float[Tensor, "B R D"]
    slot_age: Int[Tensor, "B R"]
    """Number of the entry that it was allocated for; -1 where free."""


class KeyValue(EpisodeLog):
    """States blend into the slots they match, and get a slot of their own where they match none.

    Read: Mem(q) = sum c_j v_j with c from `recall_weights` (eq. 15-17). Write of r = q = state (eq. 18-20):
    v_j <- c_j r + (1 - c_j) v_j; where no key is as similar as `acceptance`, the state takes a free slot, or
    else the one that was allocated first. Slots merge entries, so time, energies, actions and codes are in an
    exact log beside them, and look-ups by time, nearest state and code go there.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "memory"
        kind: Literal["key_value"] = "key_value"
        capacity: int = Field(256, gt=0)
        """Slots, and entries of the log."""
        bins: int = Field(65536, gt=0)
        """Bins of the lifetime counts of observations."""
        acceptance: float = Field(0.8, ge=-1, le=1)
        """Cosine similarity from which a state matches a key; gamma of eq. 16 is its exponential."""
        sharpness: float = Field(20.0, gt=0)
        """Match of eq. 15 is this times the cosine similarity."""

    def __init__(self, config: Config, spec: AgentSpec) -> None:
        super().__init__(config.capacity, config.bins, spec.levels[0].dim)
        self.acceptance, self.sharpness = config.acceptance, config.sharpness

    def initial(self, batch: int, device: torch.device) -> MemoryState:
        log = super().initial(batch, device)
        parts = {field.name: getattr(log, field.name) for field in fields(log)}
        return _Slots(
            **parts,
            slot_keys=torch.zeros_like(log.keys),
            slot_values=torch.zeros_like(log.values),
            slot_age=log.time,
        )

    def reset(self, contents: MemoryState, rows: Bool[Tensor, " B"]) -> MemoryState:
        slots = _slots(super().reset(contents, rows))
        return replace(slots, slot_age=slots.slot_age.masked_fill(rows.unsqueeze(-1), -1))

    def write(self, contents: MemoryState, entry: MemoryEntry) -> MemoryState:
        slots = _slots(contents)
        weights, similarity = self._match(slots, entry.state)
        near = similarity.masked_fill(slots.slot_age < 0, -torch.inf).amax(1) >= self.acceptance
        values = _blend(slots.slot_values, entry.state, weights * near.unsqueeze(-1))
        # The free slots have the lowest age, -1; after them comes the oldest.
        place = slots.slot_age.argmin(1)
        rows = torch.arange(len(place), device=place.device)
        keep = near.unsqueeze(-1)
        key = torch.where(keep, slots.slot_keys[rows, place], F.normalize(entry.state, dim=-1))
        value = torch.where(keep, values[rows, place], entry.state)
        age = torch.where(near, slots.slot_age[rows, place], slots.written)
        return replace(
            _slots(super().write(contents, entry)),
            slot_keys=put(slots.slot_keys, place, key),
            slot_values=put(values, place, value),
            slot_age=slots.slot_age.index_put((rows, place), age),
        )

    def read(self, contents: MemoryState, query: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        slots = _slots(contents)
        weights, _ = self._match(slots, query)
        return (weights.unsqueeze(1) @ slots.slot_values).squeeze(1)

    def _match(self, slots: _Slots, query: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
        """Weights c and cosine similarities to the keys."""
        similarity = (F.normalize(query, dim=-1).unsqueeze(1) @ slots.slot_keys.transpose(1, 2)).squeeze(1)
        return recall_weights(similarity, slots.slot_age >= 0, self.acceptance, self.sharpness), similarity


def _blend(
    values: Float[Tensor, "B R D"], state: Float[Tensor, "B D"], weights: Float[Tensor, "B R"]
) -> Float[Tensor, "B R D"]:
    """c r + (1 - c) v (eq. 20): in place unless a gradient is needed."""
    if needs_gradient(values, state):
        return torch.lerp(values, state.unsqueeze(1), weights.unsqueeze(-1))
    return values.detach().lerp_(state.unsqueeze(1), weights.unsqueeze(-1))


def _slots(contents: MemoryState) -> _Slots:
    """The contents as this memory made them; TypeError for those of another kind."""
    if not isinstance(contents, _Slots):
        raise TypeError(f"contents of a key_value memory expected, got {type(contents).__name__}")
    return contents
