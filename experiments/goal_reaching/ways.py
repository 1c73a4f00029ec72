"""The fewest steps from a view to a place along anything that was walked: hindsight over a walk's own records.

What a walk shows of two views is a way between them, mostly a roundabout one. Pieces of it can be put together, since
the same view was met more than once: search on the replay buffer (Eysenbach et al. 2019, SoRB, arXiv 1906.05253), here
with views that are equal in place of views that are near. Nothing is asked of the environment: a step that was never
taken is not known, and a way that nobody found does not exist.

A goal is where a view shows the agent: how the doors stand in it is not asked for. Asked for the whole view, to be in
the last room with the first door shut is a long way about.
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
    """One episode: its records, what each of them saw, and how far it is from there to where others saw the agent."""

    row: int
    record: Int[Tensor, " V"]
    """Of each view, a record that saw it."""
    place: Int[Tensor, " V"]
    """Of each view, the number of the place and heading that it shows the agent in."""
    steps: UInt8[Tensor, "V P"]
    """Fewest environment steps from a view to a place and heading along what was walked."""


class Ways:
    """Walks by episode, to draw pairs of views from."""

    def __init__(
        self,
        view: Int[Tensor, "N T"],
        place: Int[Tensor, "N T"],
        is_first: Bool[Tensor, "N T"],
        truncated: Bool[Tensor, "N T"],
    ) -> None:
        """Views and places as codes, where episodes begin and where they end. One that the data cut short is left out:
        a walk of half the length knows ways a third longer, and a critic told both learns which layouts had which."""
        self.walks: list[Walk] = []
        for row in range(len(view)):
            begins = [*is_first[row].nonzero().squeeze(1).tolist(), view.shape[1]]
            self.walks += [
                walk(row, begin, view[row, begin:end], place[row, begin:end])
                for begin, end in pairwise(begins)
                if truncated[row, end - 1]
            ]

    def pairs(
        self, count: int, generator: torch.Generator, walks: int = 16
    ) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], Int[Tensor, " P"], Float[Tensor, " P"]]:
        """Row, two records of it, and the fewest steps from the one to where the other was; P is `count` at most."""
        found: list[tuple[Tensor, ...]] = []
        for number in torch.randint(len(self.walks), (walks,), generator=generator).tolist():
            own = self.walks[number]
            begin, end = torch.randint(len(own.record), (2, count // walks), generator=generator)
            steps = own.steps[begin, own.place[end]]
            known = steps <= FARTHEST
            row = torch.full_like(begin, own.row)
            found.append((row[known], own.record[begin[known]], own.record[end[known]], steps[known].float()))
        row, begin, end, steps = (torch.cat(part) for part in zip(*found, strict=True))
        return row, begin, end, steps


def walk(row: int, begin: int, view: Int[Tensor, " T"], place: Int[Tensor, " T"]) -> Walk:
    """The walk of an episode that begins at record `begin` of a row."""
    _, node = view.unique(return_inverse=True)
    count = int(node.max()) + 1
    record = torch.empty(count, dtype=torch.int64)
    record[node] = torch.arange(len(view)) + begin
    edges = torch.stack((node[:-1], node[1:])).unique(dim=1)
    number = place[record - begin].unique(return_inverse=True)[1]
    steps = fewest_steps(edges, count)
    nearest = steps.new_full((count, int(number.max()) + 1), FARTHEST + 1)
    nearest.scatter_reduce_(1, number.expand(count, -1), steps, "amin")
    return Walk(row, record, number, nearest)


def fewest_steps(edges: Int[Tensor, "2 E"], count: int) -> UInt8[Tensor, "V V"]:
    """From every view to every other, breadth first, all at once: 255 where there is no way."""
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
    """Of each view, those from which it was reached in one step; itself where there are fewer than of others."""
    begin, end = edges[:, edges[1].argsort()]
    number = torch.bincount(end, minlength=count)
    place = torch.arange(len(end)) - (number.cumsum(0) - number)[end]
    before = torch.arange(count)[:, None].repeat(1, int(number.max()))
    before[end, place] = begin
    return before
