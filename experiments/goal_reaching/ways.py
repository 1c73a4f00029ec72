"""The fewest steps from a place to another along anything that was walked: hindsight over a walk's own records.

What a walk shows of two places is a way between them, mostly a roundabout one. Pieces of it can be put together, since
the same place was come to more than once: search on the replay buffer (Eysenbach et al. 2019, SoRB, arXiv 1906.05253),
here with places that are the same in place of views that are near. Nothing is asked of the environment: a step that was
never taken is not known, and a way that nobody found does not exist.

A place is where a view shows the agent, and which way it looks. How doors stand is asked for neither where a way begins
nor where it ends: what opening them takes is left out, a step or two of a way, and in return a walk has a few hundred
places to come back to, not thousands of views that differ in a door far off.

The same records say what actions come to that were never taken in this order: from every place, where each led.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

FARTHEST = 254
"""Steps up to which ways are followed; 255 stands for no way."""
WALKS = 32
"""Walks that a batch is drawn from."""
WALKED = 0.25
"""Share of the tries that are as walked."""


@dataclass(frozen=True)
class Tries:
    """Actions from a record on, and how far it is to a goal from wherever they come to: R of them, L actions each."""

    row: Int[Tensor, " R"]
    begin: Int[Tensor, " R"]
    """The record."""
    action: Int[Tensor, "R L"]
    goal: Int[Tensor, " R"]
    """A record of the goal's place, of the same walk."""
    steps: Float[Tensor, "R L"]
    """Fewest environment steps to there after each action."""
    known: Bool[Tensor, "R L"]
    """Where they are known."""


@dataclass(frozen=True)
class Walk:
    """One episode: its places, what was seen there, and how far it is from each to the others."""

    row: int
    begin: int
    """Its first record."""
    place: Int[Tensor, " T"]
    """Of each of its records, in their order."""
    action: Int[Tensor, " T"]
    """Taken there, -1 at the end."""
    records: Int[Tensor, " T"]
    """All of its records, by place."""
    first: Int[Tensor, " P"]
    """Where those of each place begin among them."""
    count: Int[Tensor, " P"]
    """How many of them there are."""
    steps: UInt8[Tensor, "P P"]
    """Fewest environment steps from a place to another along what was walked."""
    after: Int[Tensor, "P+1 A"]
    """Where each action led from each place: -1 if it was not tried there, or led now here and now there, as ahead into
    a door; the last row is that of nowhere (-1)."""

    def draw(self, place: Int[Tensor, " N"], generator: torch.Generator) -> Int[Tensor, " N"]:
        """One of the records of each place."""
        share = torch.rand(len(place), generator=generator)
        return self.records[self.first[place] + (share * self.count[place]).long()]

    def tries(self, count: int, length: int, generator: torch.Generator) -> Tries:
        """As many tries of so many actions: as walked, or at random."""
        start = torch.randint(len(self.place) - length, (count,), generator=generator)
        walked = start[:, None] + torch.arange(length)
        action = torch.randint(self.after.shape[1], (count, length), generator=generator)
        came, at = [], self.place[start]
        for own in action.T:
            at = self.after[at, own]
            came.append(at)
        as_walked = (torch.rand(count, generator=generator) < WALKED)[:, None]
        action = torch.where(as_walked, self.action[walked], action)
        place = torch.where(as_walked, self.place[walked + 1], torch.stack(came, 1))
        end = torch.randint(len(self.count), (count,), generator=generator)
        steps = self.steps[place, end[:, None]]
        known = (place >= 0) & (steps <= FARTHEST)
        row = torch.full_like(start, self.row)
        return Tries(row, self.begin + start, action, self.draw(end, generator), steps.float(), known)


class Ways:
    """Walks by episode, to draw pairs of records from, and tries."""

    def __init__(
        self,
        place: Int[Tensor, "N T"],
        action: Int[Tensor, "N T"],
        is_first: Bool[Tensor, "N T"],
        truncated: Bool[Tensor, "N T"],
        actions: int,
    ) -> None:
        """Places as codes, what was done there, of so many actions, where episodes begin and where they end. One that
        the data cut short is left out: a walk of half the length knows ways a third longer, and a critic told both
        learns which layouts had which."""
        self.walks: list[Walk] = []
        for row in range(len(place)):
            begins = [*is_first[row].nonzero().squeeze(1).tolist(), place.shape[1]]
            self.walks += [
                walk(row, begin, place[row, begin:end], action[row, begin:end], actions)
                for begin, end in pairwise(begins)
                if truncated[row, end - 1]
            ]

    def pairs(
        self, count: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], Int[Tensor, " P"], Float[Tensor, " P"]]:
        """Row, two records of it, and the fewest steps from where the one was to where the other was; P is `count` at
        most."""
        found: list[tuple[Tensor, ...]] = []
        for own in self._drawn(generator):
            begin, end = torch.randint(len(own.count), (2, count // WALKS), generator=generator)
            steps = own.steps[begin, end]
            known = steps <= FARTHEST
            ends = (own.draw(place[known], generator) for place in (begin, end))
            found.append((torch.full_like(begin[known], own.row), *ends, steps[known].float()))
        row, begin, end, steps = (torch.cat(part) for part in zip(*found, strict=True))
        return row, begin, end, steps

    def shown(
        self, grid: Int[Tensor, "N T"], count: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], Int[Tensor, " P"], Float[Tensor, " P"]]:
        """As `pairs`, but all those of a walk show the same grid where they begin, and where they end the same one
        again or one other, and the walks are half as many: to look at a grid takes long. `grid` says which each record
        shows."""
        found: list[tuple[Tensor, ...]] = []
        for own in self._drawn(generator)[::2]:
            seen = grid[own.row, own.begin : own.begin + len(own.place)]
            chosen = seen[torch.randint(len(seen), (2,), generator=generator)]
            alike = [(seen == number).nonzero().squeeze(1) for number in chosen]
            begin, end = (at[torch.randint(len(at), (2 * count // WALKS,), generator=generator)] for at in alike)
            steps = own.steps[own.place[begin], own.place[end]]
            known = steps <= FARTHEST
            ends = (own.begin + at[known] for at in (begin, end))
            found.append((torch.full_like(begin[known], own.row), *ends, steps[known].float()))
        row, begin, end, steps = (torch.cat(part) for part in zip(*found, strict=True))
        return row, begin, end, steps

    def tries(self, count: int, length: int, generator: torch.Generator) -> Tries:
        """So many tries of `length` actions each."""
        found = [own.tries(count // WALKS, length, generator) for own in self._drawn(generator)]
        return Tries(*(torch.cat([getattr(one, field.name) for one in found]) for field in fields(Tries)))

    def _drawn(self, generator: torch.Generator) -> list[Walk]:
        numbers = torch.randint(len(self.walks), (WALKS,), generator=generator).tolist()
        return [self.walks[number] for number in numbers]


def walk(row: int, begin: int, place: Int[Tensor, " T"], action: Int[Tensor, " T"], actions: int) -> Walk:
    """The walk of an episode that begins at record `begin` of a row."""
    _, node, count = place.unique(return_inverse=True, return_counts=True)
    edges = torch.stack((node[:-1], node[1:])).unique(dim=1)
    steps, after = fewest_steps(edges, len(count)), outcomes(node, action, len(count), actions)
    return Walk(row, begin, node, action, node.argsort() + begin, count.cumsum(0) - count, count, steps, after)


def outcomes(place: Int[Tensor, " T"], action: Int[Tensor, " T"], count: int, actions: int) -> Int[Tensor, "P+1 A"]:
    """Where each action led from each of `count` places; -1 if it was not tried there, or did not always lead there."""
    tried = (place * actions + action)[:-1]
    least = torch.full((count * actions,), count).scatter_reduce_(0, tried, place[1:], "amin")
    most = torch.full((count * actions,), -1).scatter_reduce_(0, tried, place[1:], "amax")
    after = torch.where(least == most, most, -1).view(count, actions)
    return torch.cat((after, after.new_full((1, actions), -1)))


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
