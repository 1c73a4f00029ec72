"""What every kind of short-term memory shares: an exact log of the last entries, and lifetime counts.

The log is a ring: entry number `written` goes to place `written % capacity`, the oldest is overwritten. All
fields of `MemoryState` are aligned with it, so look-ups by time, state and observation code are exact within
its capacity, whatever the soft memory of a kind merges.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.cost import INTERACTIONS, context
from hjepa.cost import interaction as interaction_of
from hjepa.interfaces import MemoryEntry, MemoryState, ShortTermMemory


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether a write must leave its inputs as they are, for the backward pass."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def put(
    target: Float[Tensor, "B R D"], place: Int[Tensor, " B"], value: Float[Tensor, "B D"]
) -> Float[Tensor, "B R D"]:
    """`target` with `value` at each row's place: in place unless a gradient is needed."""
    index = (torch.arange(len(place), device=place.device), place)
    if needs_gradient(target, value):
        return target.index_put(index, value)
    return target.detach().index_put_(index, value)


def recall_weights(
    similarity: Float[Tensor, "B R"], present: Bool[Tensor, "B R"], acceptance: float, sharpness: float
) -> Float[Tensor, "B R"]:
    """c of L22 eq. 16: exp(s) / (gamma + sum exp(s)), s = sharpness * cosine similarity; 0 where not present.

    `acceptance` is the similarity that weighs as much as "nothing": gamma = exp(sharpness * acceptance).
    Far from everything all weights are near 0.
    """
    # Shifted by the largest possible exponent, so that nothing overflows.
    weights = ((similarity - 1) * sharpness).exp() * present
    gamma = torch.exp(similarity.new_tensor((acceptance - 1) * sharpness))
    return weights / (gamma + weights.sum(-1, keepdim=True))


class EpisodeLog(ShortTermMemory):
    """Exact log of entries; a kind of memory adds how it is read. It has no parameters.

    Where no gradient is needed, `write` reuses the storage of the contents it is given: drop those.
    Imagined entries are logged, but not counted: they were not observed.
    """

    def __init__(self, capacity: int, bins: int, dim: int) -> None:
        super().__init__()
        self.capacity, self.bins, self.dim = capacity, bins, dim

    def initial(self, batch: int, device: torch.device) -> MemoryState:
        shape = (batch, self.capacity)
        number = torch.zeros(shape, dtype=torch.int64, device=device)
        energy = torch.zeros(shape, device=device)
        return MemoryState(
            keys=torch.zeros(*shape, self.dim, device=device),
            values=torch.zeros(*shape, self.dim, device=device),
            time=number - 1,
            intrinsic=energy,
            critic=energy,
            action=number,
            imagined=number.bool(),
            code=number,
            situation=number,
            written=torch.zeros(batch, dtype=torch.int64, device=device),
            visits=torch.zeros(self.bins, dtype=torch.int64, device=device),
            interactions=torch.zeros(INTERACTIONS, dtype=torch.int64, device=device),
        )

    def reset(self, contents: MemoryState, rows: Bool[Tensor, " B"]) -> MemoryState:
        return replace(
            contents,
            time=contents.time.masked_fill(rows.unsqueeze(-1), -1),
            written=contents.written.masked_fill(rows, 0),
        )

    def write(self, contents: MemoryState, entry: MemoryEntry) -> MemoryState:
        place = contents.written % self.capacity
        column = place.unsqueeze(-1)

        def log(field: Tensor, value: Tensor) -> Tensor:
            return field.scatter(1, column, value.to(field.dtype).unsqueeze(-1))

        deed = interaction_of(entry.code, entry.action)
        new = ~entry.imagined & (self.count(contents, entry.code) == 0)
        first = ~entry.imagined & (self.interacted(contents, deed)[0] == 0)
        return replace(
            contents,
            keys=put(contents.keys, place, entry.state),
            values=put(contents.values, place, entry.state),
            time=log(contents.time, entry.time),
            intrinsic=log(contents.intrinsic, entry.intrinsic),
            critic=log(contents.critic, entry.critic),
            action=log(contents.action, entry.action),
            imagined=log(contents.imagined, entry.imagined),
            code=log(contents.code, entry.code),
            situation=log(contents.situation, entry.situation),
            written=contents.written + 1,
            visits=contents.visits.index_add(0, entry.code % self.bins, new.long()),
            interactions=contents.interactions.index_add(0, deed, first.long()),
        )

    def at(self, contents: MemoryState, time: Int[Tensor, " B"]) -> tuple[MemoryEntry, Bool[Tensor, " B"]]:
        """If several entries have that time, the one written last."""
        matches = (contents.time == time.unsqueeze(-1)) & (contents.time >= 0)
        places = torch.arange(self.capacity, device=time.device)
        age = (contents.written.unsqueeze(-1) - 1 - places) % self.capacity
        place = age.masked_fill(~matches, self.capacity).argmin(1)
        return self._entry(contents, place), matches.any(1)

    def nearest(self, contents: MemoryState, state: Float[Tensor, "B D"]) -> tuple[MemoryEntry, Bool[Tensor, " B"]]:
        present = contents.time >= 0
        # Without the matrix-product shortcut, which rounds small distances to nothing.
        distance = torch.cdist(
            state.detach().unsqueeze(1), contents.keys.detach(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        place = distance.squeeze(1).masked_fill(~present, torch.inf).argmin(1)
        return self._entry(contents, place), present.any(1)

    def count(self, contents: MemoryState, code: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Perceived entries only, as far back as `capacity` entries."""
        return ((contents.code == code.unsqueeze(-1)) & _perceived(contents)).sum(1)

    def lifetime(self, contents: MemoryState, code: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Perceived entries only, once an episode; codes that share a bin share its count."""
        return contents.visits[code % self.bins]

    def interacted(
        self, contents: MemoryState, interaction: Int[Tensor, " B"]
    ) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
        """Perceived entries only."""
        same = interaction_of(contents.code, contents.action) == interaction.unsqueeze(-1)
        return (same & _perceived(contents)).sum(1), contents.interactions[interaction]

    def tried(self, contents: MemoryState, situation: Int[Tensor, " B"], num_actions: int) -> Int[Tensor, "B A"]:
        """Perceived entries only, as far back as `capacity` entries."""
        same = (contents.situation == situation.unsqueeze(-1)) & _perceived(contents)
        counts = torch.zeros(len(situation), num_actions, dtype=torch.int64, device=situation.device)
        return counts.scatter_add(1, contents.action, same.long())

    def futile(
        self, contents: MemoryState, code: Int[Tensor, " B"], situation: Int[Tensor, " B"], num_actions: int
    ) -> Int[Tensor, "B A"]:
        """Perceived entries only, as far back as `capacity` entries."""
        last = ((contents.written - 1) % self.capacity).unsqueeze(-1)
        after = contents.situation.roll(-1, 1).scatter(1, last, situation.unsqueeze(-1))
        alike = (context(contents.code) == context(code).unsqueeze(-1)) & _perceived(contents)
        counts = torch.zeros(len(code), num_actions, dtype=torch.int64, device=code.device)
        return counts.scatter_add(1, contents.action, (alike & (contents.situation == after)).long())

    def _entry(self, contents: MemoryState, place: Int[Tensor, " B"]) -> MemoryEntry:
        rows = torch.arange(len(place), device=place.device)
        return MemoryEntry(
            contents.time[rows, place],
            contents.keys[rows, place],
            contents.intrinsic[rows, place],
            contents.critic[rows, place],
            contents.action[rows, place],
            contents.imagined[rows, place],
            contents.code[rows, place],
            contents.situation[rows, place],
        )


def _perceived(contents: MemoryState) -> Bool[Tensor, "B R"]:
    """Places that hold an entry which was not imagined."""
    return (contents.time >= 0) & ~contents.imagined
