"""`hjepa/FourRooms-v0`: MiniGrid's four rooms seen from above and without a task, to explore and to set goals in.

The layout of a seed is that of `MiniGrid-FourRooms-v0`, but for the green square, which is taken out: it would end
the episode. There is no reward. Actions are the three that do anything here: left, right, forward. The view is the
whole grid, [column, row]; the agent is a cell of its own with its direction for a state (MiniGrid's full observation).
"""

from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.envs.fourrooms import FourRoomsEnv

FOUR_ROOMS_ID = "hjepa/FourRooms-v0"
MAX_STEPS = 4000
"""Long enough for a walk to see nearly all there is: about 1,000 places and headings."""


class OpenFourRooms(FourRoomsEnv):
    """Four rooms, joined by four gaps whose places the seed draws; the agent starts anywhere."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(max_steps=MAX_STEPS, render_mode=render_mode)
        self.action_space = gymnasium.spaces.Discrete(3)
        image = gymnasium.spaces.Box(0, 255, (self.width, self.height, 3), np.uint8)
        assert isinstance(self.observation_space, gymnasium.spaces.Dict)
        self.observation_space = gymnasium.spaces.Dict({**self.observation_space.spaces, "image": image})

    def _gen_grid(self, width: int, height: int) -> None:
        super()._gen_grid(width, height)
        for cell, item in enumerate(self.grid.grid):
            if item is not None and item.type == "goal":
                self.grid.grid[cell] = None
        # Nothing in the grid moves but the agent: encoding the rest once makes a step twenty times as quick.
        self._ground: UInt8[np.ndarray, "W V 3"] = self.grid.encode()

    def gen_obs(self) -> dict[str, Any]:
        """What the agent sees: the whole grid, with itself in it."""
        image = self._ground.copy()
        image[self.agent_pos] = (OBJECT_TO_IDX["agent"], COLOR_TO_IDX["red"], self.agent_dir)
        return {"image": image, "direction": self.agent_dir, "mission": self.mission}


def register() -> None:
    """Make the environment known to gymnasium; calling it again changes nothing."""
    if FOUR_ROOMS_ID not in gymnasium.registry:
        gymnasium.register(id=FOUR_ROOMS_ID, entry_point="hjepa.envs.full_view:OpenFourRooms")
