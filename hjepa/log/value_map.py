"""The critics' energy-to-go over the cells of one held-out layout: what the agent thinks of each place, on arriving.

The agent is put into each free cell of an environment made for this, looking in each direction, and sees what it would
see there; its memory is fresh. Nothing is acted and nothing is learned.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hjepa.agent import Agent
from hjepa.envs.make import make_env, quiet_reset
from hjepa.envs.text import encode_mission
from hjepa.envs.vector import Record

DIRECTIONS = 4


@dataclass(frozen=True)
class ValueMap:
    """Energies over a layout."""

    grid: UInt8[np.ndarray, "H W 3"]
    """The layout as MiniGrid draws it."""
    energies: Float[np.ndarray, "L rows columns"]
    """Each level's energy-to-go, mean over the directions; nan where the agent cannot stand."""


def value_map(agent: Agent, env_id: str, seed: int, tile: int = 24) -> ValueMap:
    """Map the critics over the layout of `seed`. To be called in evaluation mode, without gradients."""
    env = make_env(env_id)
    try:
        quiet_reset(env, seed)
        world: Any = env.unwrapped
        grid = world.get_frame(highlight=False, tile_size=tile)
        cells = free_cells(world)
        views = [_view_from(world, cell, direction) for cell in cells for direction in range(DIRECTIONS)]
        values = _values(agent, np.stack(views), world.mission)
        shape = (world.grid.height, world.grid.width)
    finally:
        env.close()
    energies = np.full((len(values), *shape), np.nan)
    for number, (column, row) in enumerate(cells):
        energies[:, row, column] = values[:, number * DIRECTIONS : (number + 1) * DIRECTIONS].mean(1).cpu().numpy()
    return ValueMap(grid, energies)


def free_cells(world: Any) -> list[tuple[int, int]]:
    """Columns and rows where the agent can stand: empty cells, floors, open doors, and its own."""
    found = []
    for row in range(world.grid.height):
        for column in range(world.grid.width):
            item = world.grid.get(column, row)
            if item is None or (item.can_overlap() and item.type not in ("goal", "lava")):
                found.append((column, row))
    return found


def _view_from(world: Any, cell: tuple[int, int], direction: int) -> UInt8[np.ndarray, "W V 3"]:
    world.agent_pos, world.agent_dir = cell, direction
    return world.gen_obs()["image"]


def _values(agent: Agent, views: UInt8[np.ndarray, "N W V 3"], mission: str) -> Float[Tensor, "L N"]:
    device, rows = agent.surprise_mean.device, len(views)
    mission_numbers = torch.as_tensor(encode_mission(mission), dtype=torch.int64).expand(rows, -1)
    yes, no = torch.ones(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool)
    image, nothing = torch.from_numpy(views), torch.full((rows,), -1)
    record = Record(image, mission_numbers, torch.zeros(rows), no, no, yes, nothing, 0).to(device)
    task = agent.configure(record.mission)
    lowest, _ = agent.perceive(record.observation, record, agent.perception.initial(rows, device), task)
    return torch.stack(agent.values(agent.lift(lowest, task.tokens), task))
