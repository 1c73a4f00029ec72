"""Shortest paths to success through the true state of a MiniGrid environment. Diagnosis only.

Held apart from whatever learns or acts: nothing but `hjepa.eval.oracle` and the ladder may import it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minigrid import envs as minigrid_envs

State = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""Agent's cell (row * width + column), its direction, each movable thing's cell, each door's condition."""

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)
CARRIED, HIDDEN = -1, -2
"""Where a thing is when on no cell; hidden: in a box, or a box that was opened."""
OPEN, CLOSED, LOCKED = range(3)
NOWHERE = 10**9
"""Steps to success where there is no way."""
STATE_LIMIT = 200_000


def _classes(*names: str) -> tuple[type, ...]:
    return tuple(getattr(minigrid_envs, name) for name in names)


TO_GOAL_CELL = _classes(
    "CrossingEnv",
    "DistShiftEnv",
    "DoorKeyEnv",
    "EmptyEnv",
    "FourRoomsEnv",
    "LavaGapEnv",
    "LockedRoomEnv",
    "MultiRoomEnv",
)
TO_PICK_UP = _classes("KeyCorridorEnv", "UnlockPickupEnv", "BlockedUnlockPickupEnv", "ObstructedMazeEnv")
TO_UNLOCK = _classes("UnlockEnv")
TO_REMEMBER = _classes("MemoryEnv")
KNOWN = (*TO_GOAL_CELL, *TO_PICK_UP, *TO_UNLOCK, *TO_REMEMBER)
MOVABLE = ("key", "ball", "box")
GROUND = ("wall", "floor", "goal", "lava")


class UnsupportedError(Exception):
    """The environment's rules or objects are not known to the search, or it has too many states."""


@dataclass(frozen=True)
class Thing:
    """Something that can be carried."""

    kind: str
    color: str
    contents: int | None
    """Number of the thing in the box."""


@dataclass(frozen=True)
class Maze:
    """What does not change within an episode; two episodes of the same layout have equal mazes."""

    width: int
    walls: frozenset[int]
    deadly: frozenset[int]
    goals: frozenset[int]
    """Cells that end the episode with success."""
    floors: frozenset[int]
    """Cells that can be walked on but where nothing can be put down."""
    things: tuple[Thing, ...]
    doors: tuple[tuple[int, str], ...]
    """Cell and colour of each."""
    target_thing: int | None
    """To be picked up."""
    target_door: int | None
    """To be opened."""
    can_carry: bool

    def successors(self, state: State) -> Iterator[tuple[int, State | None]]:
        """Actions that may shorten the way, and where they lead; None is success.

        Left out, as none can shorten it: closing a door, and putting a thing down where there is no other to
        pick up.
        """
        cell, direction, places, doors = state
        yield LEFT, (cell, (direction - 1) % 4, places, doors)
        yield RIGHT, (cell, (direction + 1) % 4, places, doors)
        front = cell + (1, self.width, -1, -self.width)[direction]
        if front in self.walls:
            return
        for number, (door_cell, _) in enumerate(self.doors):
            if door_cell == front and doors[number] != OPEN:
                yield from self._open(state, number)
                return
        if front in places:
            yield from self._handle(state, places.index(front))
            return
        if front in self.goals:
            yield FORWARD, None
        elif front not in self.deadly:
            yield FORWARD, (front, direction, places, doors)
            yield from self._put_down(state, front)

    def _open(self, state: State, number: int) -> Iterator[tuple[int, State | None]]:
        cell, direction, places, doors = state
        if doors[number] == LOCKED:
            key = self.things[places.index(CARRIED)] if CARRIED in places else None
            if key is None or key.kind != "key" or key.color != self.doors[number][1]:
                return
        opened = _changed(doors, number, OPEN)
        yield TOGGLE, None if number == self.target_door else (cell, direction, places, opened)

    def _handle(self, state: State, number: int) -> Iterator[tuple[int, State | None]]:
        """Pick up what lies ahead, or open it where it is a box."""
        cell, direction, places, doors = state
        if self.can_carry and CARRIED not in places:
            taken = _changed(places, number, CARRIED)
            yield PICKUP, None if number == self.target_thing else (cell, direction, taken, doors)
        thing = self.things[number]
        if thing.kind == "box":
            opened = _changed(places, number, HIDDEN)
            if thing.contents is not None:
                opened = _changed(opened, thing.contents, places[number])
            yield TOGGLE, (cell, direction, opened, doors)

    def _put_down(self, state: State, front: int) -> Iterator[tuple[int, State | None]]:
        cell, direction, places, doors = state
        if CARRIED not in places or len(places) == 1 or front in self.floors:
            return
        if any(door_cell == front for door_cell, _ in self.doors):
            return
        yield DROP, (cell, direction, _changed(places, places.index(CARRIED), front), doors)


class Episode:
    """Reads the true state of one environment, from its reset to the end of the episode."""

    def __init__(self, env: Any) -> None:
        """`env` has just been reset. Raises UnsupportedError where its rules or objects are not known."""
        world = env.unwrapped
        if not isinstance(world, KNOWN):
            raise UnsupportedError(f"the search does not know what succeeds in {type(world).__name__}")
        self._objects: list[Any] = []
        for item in world.grid.grid:
            while item is not None and item.type in MOVABLE:
                self._objects.append(item)
                item = item.contains
        self._doors = [(cell, item) for cell, item in enumerate(world.grid.grid) if item and item.type == "door"]
        self.maze = self._read_maze(world)

    def state(self, env: Any) -> State:
        """The true state now."""
        world = env.unwrapped
        where = {id(item): cell for cell, item in enumerate(world.grid.grid) if item is not None}
        if world.carrying is not None:
            where[id(world.carrying)] = CARRIED
        column, row = world.agent_pos
        places = tuple(where.get(id(item), HIDDEN) for item in self._objects)
        doors = tuple(OPEN if door.is_open else LOCKED if door.is_locked else CLOSED for _, door in self._doors)
        return int(row) * world.width + int(column), int(world.agent_dir), places, doors

    def _read_maze(self, world: Any) -> Maze:
        kinds = {item.type for item in world.grid.grid if item is not None}
        unknown = kinds - {*MOVABLE, *GROUND, "door"}
        if unknown:
            raise UnsupportedError(f"objects that the search does not know: {', '.join(sorted(unknown))}")
        goals, deadly, target_thing, target_door = self._aim(world)
        return Maze(
            world.width,
            _cells(world, "wall"),
            _cells(world, "lava") | deadly,
            goals,
            _cells(world, "floor"),
            tuple(self._thing(item) for item in self._objects),
            tuple((cell, door.color) for cell, door in self._doors),
            target_thing,
            target_door,
            not isinstance(world, TO_REMEMBER),
        )

    def _thing(self, item: Any) -> Thing:
        inside = item.contains
        return Thing(item.type, item.color, None if inside is None else self._number(inside))

    def _number(self, item: Any) -> int:
        return next(number for number, one in enumerate(self._objects) if one is item)

    def _aim(self, world: Any) -> tuple[frozenset[int], frozenset[int], int | None, int | None]:
        """Cells that succeed, cells that fail, the thing to pick up, the door to open."""
        if isinstance(world, TO_GOAL_CELL):
            return _cells(world, "goal"), frozenset(), None, None
        if isinstance(world, TO_PICK_UP):
            return frozenset(), frozenset(), self._number(world.obj), None
        if isinstance(world, TO_UNLOCK):
            number = next(index for index, (_, door) in enumerate(self._doors) if door is world.door)
            return frozenset(), frozenset(), None, number
        ends = [row * world.width + column for column, row in (world.success_pos, world.failure_pos)]
        return frozenset(ends[:1]), frozenset(ends[1:]), None, None


class ShortestPaths:
    """Steps to success from every state of a maze, by breadth-first search, kept between questions.

    All states that can be reached from the first one asked about are searched at once; where an agent leaves
    them (it closed a door, say) the search goes on from there. At most `limit` states in all.
    """

    def __init__(self, maze: Maze, limit: int = STATE_LIMIT) -> None:
        self.maze, self.limit = maze, limit
        self._steps: dict[State, int] = {}
        self._exhausted = False

    def steps(self, state: State) -> int:
        """Fewest actions to success; NOWHERE if there is no way. Raises UnsupportedError beyond the limit."""
        if state not in self._steps:
            self._search(state)
        return self._steps[state]

    def actions(self, state: State, most: int) -> list[int] | None:
        """The first `most` actions of a shortest path; None if there is none. Raises as `steps` does."""
        if self.steps(state) == NOWHERE:
            return None
        path: list[int] = []
        present: State | None = state
        while present is not None and len(path) < most:
            action, present = min(self.maze.successors(present), key=lambda step: self._left(step[1]))
            path.append(action)
        return path

    def _left(self, state: State | None) -> int:
        return 0 if state is None else self._steps[state]

    def _search(self, root: State) -> None:
        found, before, ends = [root], {root: list[State]()}, dict[State, int]()
        for state in found:
            if self._exhausted or len(self._steps) + len(found) > self.limit:
                self._exhausted = True
                raise UnsupportedError(f"more than {self.limit:,} states")
            for _, after in self.maze.successors(state):
                if after is None or after in self._steps:
                    ends[state] = min(ends.get(state, NOWHERE), self._left(after) + 1)
                elif after in before:
                    before[after].append(state)
                else:
                    before[after] = [state]
                    found.append(after)
        self._steps.update(_distances(found, before, ends))


def _distances(found: list[State], before: dict[State, list[State]], ends: dict[State, int]) -> dict[State, int]:
    """Steps to success of the states found, backwards from those known to need at most `ends`."""
    steps = dict.fromkeys(found, NOWHERE)
    waiting: dict[int, list[State]] = {}
    for state, number in ends.items():
        if number < NOWHERE:
            waiting.setdefault(number, []).append(state)
    while waiting:
        number = min(waiting)
        for state in waiting.pop(number):
            if steps[state] <= number:
                continue
            steps[state] = number
            waiting.setdefault(number + 1, []).extend(one for one in before[state] if steps[one] > number + 1)
        if not waiting.get(number + 1, True):
            del waiting[number + 1]
    return steps


def _changed(values: tuple[int, ...], number: int, value: int) -> tuple[int, ...]:
    return (*values[:number], value, *values[number + 1 :])


def _cells(world: Any, kind: str) -> frozenset[int]:
    return frozenset(cell for cell, item in enumerate(world.grid.grid) if item is not None and item.type == kind)
