"""`hjepa/Dummy-v0`: a chain of three states with MiniGrid's observations, to drive the whole loop in seconds.

The agent starts at the west end of a corridor of three cells and looks east, to the goal at its other end. It
never turns: action 0 steps back, 1 waits, 2 steps forward. The optimum is two steps forward, whose return is
`OPTIMAL_RETURN` by MiniGrid's reward 1 - 0.9 steps / max_steps.
"""

from typing import Any

import gymnasium
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal
from minigrid.minigrid_env import MiniGridEnv

DUMMY_ID = "hjepa/Dummy-v0"
CELLS = 3
MAX_STEPS = 16
OPTIMAL_STEPS = CELLS - 1
OPTIMAL_RETURN = 1 - 0.9 * OPTIMAL_STEPS / MAX_STEPS
BACK, WAIT, FORWARD = range(3)


def mission() -> str:
    """The only mission, worded as MiniGrid words it."""
    return "get to the green goal square"


class ChainEnv(MiniGridEnv):
    """Three cells in a row; the seed changes nothing."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(
            mission_space=MissionSpace(mission_func=mission),
            width=CELLS + 2,
            height=3,
            max_steps=MAX_STEPS,
            render_mode=render_mode,
        )
        self.action_space = gymnasium.spaces.Discrete(3)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.put_obj(Goal(), CELLS, 1)
        self.agent_pos = (1, 1)
        self.agent_dir = 0
        self.mission = mission()

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One move along the chain."""
        if action == FORWARD:
            move = self.actions.forward
        else:
            move = self.actions.done
            if action == BACK:
                self.agent_pos = (max(1, self.agent_pos[0] - 1), 1)
        observation, reward, terminated, truncated, info = super().step(move)
        return observation, float(reward), terminated, truncated, info


def register() -> None:
    """Make the environment known to gymnasium; calling it again changes nothing."""
    if DUMMY_ID not in gymnasium.registry:
        gymnasium.register(id=DUMMY_ID, entry_point="hjepa.envs.dummy:ChainEnv")
