"""MiniGrid's rooms seen from above and without a task, to explore and to set goals in.

`hjepa/FourRooms-v0` has the layouts of `MiniGrid-FourRooms-v0`, `hjepa/MultiRoom-N4-v0` four rooms in a row behind
closed doors, of up to 7 x 7 cells with their walls. The green square is taken out: it would end the episode. There is
no reward. Actions are those that do anything here: left, right, forward, and toggle where there are doors. The view is
the whole grid, [column, row]; the agent is a cell of its own with its direction for a state (MiniGrid's full
observation).
"""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from jaxtyping import UInt8
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.world_object import WorldObj
from minigrid.envs.fourrooms import FourRoomsEnv
from minigrid.envs.multiroom import MultiRoomEnv
from minigrid.minigrid_env import MiniGridEnv

FOUR_ROOMS_ID = "hjepa/FourRooms-v0"
MULTI_ROOM_ID = "hjepa/MultiRoom-N4-v0"
MAX_STEPS = 4000
"""Long enough for a walk to see nearly all there is: about 1,000 places and headings, behind doors 200."""


class SeenWhole(MiniGridEnv):
    """Takes out the goal and shows the whole grid. To be named before the environment whose layouts it shows."""

    def see_whole(self, actions: int) -> None:
        """Set the spaces: so many actions, and an image of the whole grid."""
        self.action_space = gymnasium.spaces.Discrete(actions)
        image = gymnasium.spaces.Box(0, 255, (self.width, self.height, 3), np.uint8)
        assert isinstance(self.observation_space, gymnasium.spaces.Dict)
        self.observation_space = gymnasium.spaces.Dict({**self.observation_space.spaces, "image": image})

    def _gen_grid(self, width: int, height: int) -> None:
        super()._gen_grid(width, height)
        self._doors: list[tuple[tuple[int, int], WorldObj]] = []
        for cell, item in enumerate(self.grid.grid):
            if item is not None and item.type == "goal":
                self.grid.grid[cell] = None
            elif item is not None and item.type == "door":
                self._doors.append(((cell % width, cell // width), item))
        # Nothing in the grid changes but agent and doors: encoding the rest once makes a step twenty times as quick.
        self._ground: UInt8[np.ndarray, "W V 3"] = self.grid.encode()

    def gen_obs(self) -> dict[str, Any]:
        """What the agent sees: the whole grid, with itself in it."""
        image = self._ground.copy()
        for cell, door in self._doors:
            image[cell] = door.encode()
        image[self.agent_pos] = (OBJECT_TO_IDX["agent"], COLOR_TO_IDX["red"], self.agent_dir)
        return {"image": image, "direction": self.agent_dir, "mission": self.mission}


class OpenFourRooms(SeenWhole, FourRoomsEnv):
    """Four rooms, joined by four gaps whose places the seed draws; the agent starts anywhere."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(max_steps=MAX_STEPS, render_mode=render_mode)
        self.see_whole(3)


class OpenMultiRoom(SeenWhole, MultiRoomEnv):
    """Four rooms in a row, joined by three closed doors; the agent starts in the first."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(4, 4, 7, max_steps=MAX_STEPS, render_mode=render_mode)
        self.see_whole(4)

    def step(self, action: int) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """The fourth action toggles what is ahead."""
        return super().step(self.actions.toggle if action == 3 else action)


def register() -> None:
    """Make the environments known to gymnasium; calling it again changes nothing."""
    for env_id, name in ((FOUR_ROOMS_ID, "OpenFourRooms"), (MULTI_ROOM_ID, "OpenMultiRoom")):
        if env_id not in gymnasium.registry:
            gymnasium.register(id=env_id, entry_point=f"hjepa.envs.full_view:{name}")
