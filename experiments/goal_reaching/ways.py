"""The fewest steps from a place to another along anything that was walked: hindsight over a walk's own records.

What a walk shows of two places is a way between them, mostly a roundabout one. Pieces of it can be put together, since
the same place was come to more than once: search on the replay buffer (Eysenbach et al. 2019, SoRB, arXiv 1906.05253),
here with places that are the same in place of views that are near. Nothing is asked of the environment: a step that was
never taken is not known, and a way that nobody found does not exist.

A place is where a view shows the agent, and which way it looks. How doors stand is asked for neither where a way begins
nor where it ends: what opening them takes is left out, a step or two of a way, and in return a walk has a few hundred
places to come back to, not thousands of views that differ in a door far off.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

FARTHEST = 254
"""Steps up to which ways are followed; 255 stands for no way."""


@dataclass(frozen=True)
class Walk:
    """One episode: its places, what was seen there, and how far it is from each to the others."""

    row: int
    records: Int[Tensor, " T"]
    """All of its records, by place."""
    first: Int[Tensor, " P"]
    """Where those of each place begin among them."""
    count: Int[Tensor, " P"]
    """How many of them there are."""
    steps: UInt8[Tensor, "P P"]
    """Fewest environment steps from a place to another along what was walked."""

    def draw(self, place: Int[Tensor, " N"], generator: torch.Generator) -> Int[Tensor, " N"]:
        """One of the records of each place."""
        share = torch.rand(len(place), generator=generator)
        return self.records[self.first[place] + (share * self.count[place]).long()]


class Ways:
    """Walks by episode, to draw pairs of records from."""

    def __init__(
        self, place: Int[Tensor, "N T"], is_first: Bool[Tensor, "N T"], truncated: Bool[Tensor, "N T"]
    ) -> None:
        """Places as codes, where episodes begin and where they end. One that the data cut short is left out: a walk of
        half the length knows ways a third longer, and a critic told both learns which layouts had which."""
        self.walks: list[Walk] = []
        for row in range(len(place)):
            begins = [*is_first[row].nonzero().squeeze(1).tolist(), place.shape[1]]
            self.walks += [
                walk(row, begin, place[row, begin:end]) for begin, end in pairwise(begins) if truncated[row, end - 1]
            ]

    def pairs(
        self, count: int, generator: torch.Generator, walks: int = 32
    ) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], Int[Tensor, " P"], Float[Tensor, " P"]]:
        """Row, two records of it, and the fewest steps from where the one was to where the other was; P is `count` at
        most."""
        found: list[tuple[Tensor, ...]] = []
        for number in torch.randint(len(self.walks), (walks,), generator=generator).tolist():
            own = self.walks[number]
            begin, end = torch.randint(len(own.count), (2, count // walks), generator=generator)
            steps = own.steps[begin, end]
            known = steps <= FARTHEST
            ends = (own.draw(place[known], generator) for place in (begin, end))
            found.append((torch.full_like(begin[known], own.row), *ends, steps[known].float()))
        row, begin, end, steps = (torch.cat(part) for part in zip(*found, strict=True))
        return row, begin, end, steps


def walk(row: int, begin: int, place: Int[Tensor, " T"]) -> Walk:
    """The walk of an episode that begins at record `begin` of a row."""
    _, node, count = place.unique(return_inverse=True, return_counts=True)
    edges = torch.stack((node[:-1], node[1:])).unique(dim=1)
    return Walk(row, node.argsort() + begin, count.cumsum(0) - count, count, fewest_steps(edges, len(count)))


def fewest_steps(edges: Int[Tensor, "2 E"], count: int) -> UInt8[Tensor, "V V"]:
    """From every place to every other, breadth first, all at once: 255 where there is no way."""
    before = predecessors(edges, count)
    # Row v of `reached`: whence v can be reached; as long as it cannot, the way is a step longer.
    reached, steps = torch.eye(count, dtype=torch.uint8), torch.zeros(count, count, dtype=torch.uint8)
    for _ in range(FARTHEST):
        ahead = reached.clone()
        for column in before.T:
            ahead |= reached[column]
        if torch.equal(ahead, reached):
            break
        steps += reached ^ 1
        reached = ahead
    return steps.masked_fill_(reached == 0, FARTHEST + 1).T.contiguous()


def predecessors(edges: Int[Tensor, "2 E"], count: int) -> Int[Tensor, "V K"]:
    """Of each place, those from which it was reached in one step; itself where there are fewer than of others."""
    begin, end = edges[:, edges[1].argsort()]
    number = torch.bincount(end, minlength=count)
    place = torch.arange(len(end)) - (number.cumsum(0) - number)[end]
    before = torch.arange(count)[:, None].repeat(1, int(number.max()))
    before[end, place] = begin
    return before
