"""Episode strips: what the agent saw, its subgoals as the probe decodes them, and where it really was.

One picture a record. The border of a subgoal is coloured by why it was set at this step, and grey while it is kept; the
bar below has the whole episode, with every re-plan in the colour of its reason. On the true grid, dots are where
level 0 plans to go, a ring is where the probe places a subgoal, and a line of smaller rings the further waypoints of
the plan it is from. Places are drawn only where they have been right to within `TRUSTED` cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hjepa.envs.make import make_env
from hjepa.log.draw import (
    Color,
    Picture,
    column_of,
    draw_guess,
    draw_view,
    frame,
    label,
    legend,
    mark,
    pad,
    path,
    plain,
    row_of,
)
from hjepa.log.matrix import Places
from hjepa.log.pose import to_grid
from hjepa.log.probe import Probe
from hjepa.log.trace import Trace
from hjepa.types import REPLAN_REASONS

TRUSTED = 1.0
"""Cells of mean position error up to which the probe's positions are drawn."""
TIMELINE_HEIGHT = 9
SMALLEST_TILE = 8
REASON_COLORS: dict[str, Color] = {
    "kept": (70, 70, 78),
    "first": (240, 240, 240),
    "deadline": (240, 160, 40),
    "reached": (60, 200, 90),
    "surprise": (230, 60, 60),
    "above": (80, 160, 230),
    "injected": (180, 90, 230),
}
LEVEL_COLORS: tuple[Color, ...] = ((90, 180, 255), (255, 200, 60), (230, 110, 220), (130, 230, 130))


@dataclass(frozen=True)
class Replay:
    """The true course of an episode."""

    grids: tuple[Picture, ...]
    """The whole grid at each record."""
    start: tuple[int, int, int]
    """Column, row and direction of the agent in the first record."""
    tile: int
    """Pixels of a cell."""


def replay(trace: Trace, height: int) -> Replay:
    """Play an episode's actions again in an environment made for drawing, in pictures of about `height` pixels."""
    env = make_env(trace.env_id)
    try:
        env.reset(seed=trace.seed)
        world: Any = env.unwrapped
        tile = max(height // world.grid.height, SMALLEST_TILE)
        start = (int(world.agent_pos[0]), int(world.agent_pos[1]), int(world.agent_dir))
        grids = [world.get_frame(highlight=True, tile_size=tile)]
        for action in trace.action[:-1].tolist():
            env.step(action)
            grids.append(world.get_frame(highlight=True, tile_size=tile))
    finally:
        env.close()
    return Replay(tuple(grids), start, tile)


def episode_strip(
    trace: Trace,
    probe: Probe | None,
    tile: int = 20,
    records: Sequence[int] | None = None,
    places: Places | None = None,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Pictures of the given records (None: all): view, each level's subgoal, true grid.

    `places` tells where states are on the true grid; without it the probe does, counted from the episode's start.
    """
    course = replay(trace, tile * trace.record.image.shape[2])
    steps = range(trace.length + 1) if records is None else records
    pictures = [_picture(trace, probe, places, course, step, tile) for step in steps]
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    return np.stack([pad(picture, height, width) for picture in pictures])


def reason_of(trace: Trace, level: int, step: int) -> str:
    """Why the level's subgoal was set at this step; `kept` where it was not."""
    return REPLAN_REASONS[int(trace.levels[level].reason[step])]


def _picture(trace: Trace, probe: Probe | None, places: Places | None, course: Replay, step: int, tile: int) -> Picture:
    seen = frame(draw_view(trace.record.image[step].numpy(), tile), REASON_COLORS["kept"])
    parts = [label(seen, f"seen, step {step}")]
    lower = [level for level in range(len(trace.levels)) if bool(trace.levels[level].subgoal.active.any())]
    parts += [_subgoal(trace, probe, level, step, tile) for level in lower]
    grid = _marked(trace, probe, places, course, lower, step)
    parts.append(label(frame(grid, REASON_COLORS["kept"]), "true grid"))
    row = row_of(parts)
    return column_of([row, *(timeline(trace, level, step, row.shape[1]) for level in lower)])


def timeline(trace: Trace, level: int, step: int, width: int) -> Picture:
    """The whole episode as a bar: re-plans of a level in the colour of their reason, the present step in white."""
    bar = np.full((TIMELINE_HEIGHT, width, 3), REASON_COLORS["kept"], dtype=np.uint8)
    edges = np.linspace(0, width, trace.length + 2).round().astype(int)
    for record in range(trace.length + 1):
        reason = reason_of(trace, level, record)
        if reason != "kept":
            bar[:, edges[record] : max(edges[record + 1] - 1, edges[record] + 2)] = REASON_COLORS[reason]
    bar[: TIMELINE_HEIGHT // 3, edges[step] : max(edges[step + 1], edges[step] + 2)] = (255, 255, 255)
    present = sorted({reason_of(trace, level, record) for record in range(trace.length + 1)} - {"kept"})
    return legend(bar, f"level {level}'s subgoal set:", [(name, REASON_COLORS[name]) for name in present])


def _subgoal(trace: Trace, probe: Probe | None, level: int, step: int, tile: int) -> Picture:
    decision, reason = trace.levels[level], reason_of(trace, level, step)
    columns, rows = trace.record.image.shape[1:3]
    if not bool(decision.subgoal.active[step]):
        drawn, text = plain(rows * tile, columns * tile, "no subgoal"), f"level {level}"
    else:
        distance, left = float(decision.distance[step]), int(decision.subgoal.remaining[step])
        text = f"level {level}: " + (f"{distance:.2f}, {left} left" if reason == "kept" else f"new: {reason}")
        setter = min(level + 1, len(trace.levels) - 1)
        if probe is None:
            drawn = plain(rows * tile, columns * tile, "no probe")
        else:
            guess = probe.decode(setter, decision.subgoal.latent[step])
            drawn = draw_guess(guess.view.numpy(), guess.confidence.numpy(), tile)
    return label(frame(drawn, REASON_COLORS[reason]), text)


def _marked(
    trace: Trace, probe: Probe | None, places: Places | None, course: Replay, lower: Sequence[int], step: int
) -> Picture:
    grid = course.grids[step]
    plan = trace.levels[0].states[step]
    if bool(plan.isfinite().all()):
        for column, row in _on_grid(probe, places, course, 0, plan):
            grid = mark(grid, column, row, course.tile, LEVEL_COLORS[0], filled=True)
    for level in lower:
        subgoal, setter = trace.levels[level].subgoal, min(level + 1, len(trace.levels) - 1)
        if bool(subgoal.active[step]):
            waypoints = torch.stack([subgoal.latent[step], *last_plan(trace, setter, step)[1:]])
            found = _on_grid(probe, places, course, setter, waypoints)
            if found:
                grid = path(grid, found, course.tile, LEVEL_COLORS[(level + 1) % len(LEVEL_COLORS)])
    return grid


def _on_grid(
    probe: Probe | None, places: Places | None, course: Replay, level: int, states: Float[Tensor, "N D"]
) -> list[tuple[float, float]]:
    """Columns and rows of states; none where nothing tells them well enough."""
    if places is not None:
        known = places.errors[level] <= TRUSTED
        return [(column, row) for column, row in places.at(level, states).tolist()] if known else []
    if probe is None or probe.position_error(level) > TRUSTED:
        return []
    return [to_grid(course.start, (forward, right)) for forward, right in probe.position(level, states).tolist()]


def last_plan(trace: Trace, level: int, step: int) -> Float[Tensor, "H D"]:
    """Predicted states of the newest plan of a level at or before a step; [0, D] where it made none."""
    states = trace.levels[level].states[: step + 1]
    made = states.isfinite().flatten(1).all(1).nonzero().flatten()
    return states[int(made[-1])] if len(made) else states[0, :0]
