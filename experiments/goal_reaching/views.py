"""Curious walks through many layouts, and what was seen on them, kept small: a grid once, and where the agent was."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from hjepa.config import RunConfig
from hjepa.cost import AGENT, observation_code
from hjepa.data.spans import actions_taken
from hjepa.envs.seeds import training_seed
from hjepa.envs.vector import Record, VectorEnv
from hjepa.modules.dead_reckoning import FORWARD

CHANCE = 0.1
"""Probability of an action at random."""
LAYOUTS = 512
"""Layouts that level 0 learns from, a short while in each: it has to know walls and gaps wherever they are."""
BUCKETS = 8192
"""Views of an episode that are told apart, but for chance."""
GROUND = 1
"""MiniGrid's number of an empty cell."""


@dataclass(frozen=True)
class Views:
    """Records of N walks, T of each: what was seen as a grid without the agent, and where the agent is in it."""

    grids: UInt8[Tensor, "G W V 3"]
    """All that were seen, the agent's cell empty."""
    grid: Int[Tensor, "N T"]
    """Number of that which each record shows."""
    place: Int[Tensor, "N T"]
    """Cell of the agent, times four, plus its direction."""
    action: Int[Tensor, "N T"]
    """Taken at each record, -1 at the end of an episode."""
    is_first: Bool[Tensor, "N T"]
    truncated: Bool[Tensor, "N T"]

    def images(self, row: Int[Tensor, " R"], at: Int[Tensor, " R"]) -> UInt8[Tensor, "R W V 3"]:
        """The views of some records, as they were seen."""
        images, place = self.grids[self.grid[row, at].long()], self.place[row, at].long()
        agent = torch.stack((torch.full_like(place, AGENT), torch.zeros_like(place), place % 4), -1).to(images.dtype)
        images.flatten(1, 2)[torch.arange(len(place)), place // 4] = agent
        return images


def without_agent(image: UInt8[Tensor, "N W V 3"]) -> tuple[UInt8[Tensor, "N W V 3"], Int[Tensor, " N"]]:
    """The grids without the agent, its cell empty, and its places: its cell, times four, plus its direction."""
    cells, row = image.flatten(1, 2).clone(), torch.arange(len(image))
    cell = (cells[..., 0] == AGENT).int().argmax(1)
    place = 4 * cell + cells[row, cell, 2].long()
    cells[row, cell] = torch.tensor((GROUND, 0, 0), dtype=cells.dtype)
    return cells.view_as(image), place


def wander(config: RunConfig, frames: int, number: int, rows: int, repeat: float = 0.0) -> Iterator[Record]:
    """Records of a curious walk on training layouts: of the actions, the one taken least in this very view of this
    episode, ahead rather than about where they are even, in `rows` layouts at a time; `number` tells walks apart.
    `repeat` is the probability that the last action is taken once more, whatever came of it.

    Actions at random hardly leave the room they begin in (1.2 of 4 rooms in 500 steps, 0.2 % of all pairs of views over
    27 actions apart; this walk: all 4 in 1,000, 4 %), and what lies far apart is never learned from them.
    """
    # Rows of another walk are other rows, so that no layout is walked twice.
    env = VectorEnv(
        config.env.id, rows, lambda row, episode: training_seed(config.train.seed, row + number * LAYOUTS, episode)
    )
    generator = torch.Generator().manual_seed(config.train.seed + number)
    actions, row = env.spec.num_actions, torch.arange(rows)
    taken = torch.zeros(rows, BUCKETS, actions)
    action = torch.zeros(rows, dtype=torch.int64)
    for _ in range(frames // rows):
        record = env.step(action)
        yield record
        taken[record.is_first] = 0
        view = observation_code(record.image) % BUCKETS
        dislike = taken[row, view] + 0.4 * torch.rand(rows, actions, generator=generator)
        dislike[:, :FORWARD] += 0.5
        chance = torch.rand(rows, generator=generator) < CHANCE
        fresh = torch.where(chance, torch.randint(actions, (rows,), generator=generator), dislike.argmin(1))
        action = torch.where(torch.rand(rows, generator=generator) < repeat, action, fresh)
        taken[row, view, action] += 1
    env.close()


def look(config: RunConfig, frames: int, number: int, rows: int, repeat: float = 0.0) -> Views:
    """What is seen on a walk of `wander`."""
    numbers: dict[int, int] = {}
    grids: list[Tensor] = []
    parts: list[tuple[Tensor, ...]] = []
    for record in wander(config, frames, number, rows, repeat):
        ground, place = without_agent(record.image)
        known = []
        for row, code in enumerate(observation_code(ground).tolist()):
            known.append(numbers.setdefault(code, len(numbers)))
            if known[-1] == len(grids):
                grids.append(ground[row].clone())
        shown = torch.tensor(known, dtype=torch.int32)
        parts.append((shown, place.short(), record.previous_action, record.is_first, record.truncated))
    grid, place, previous, first, cut = (torch.stack(part, 1) for part in zip(*parts, strict=True))
    return Views(torch.stack(grids), grid, place, actions_taken(previous, first), first, cut)
