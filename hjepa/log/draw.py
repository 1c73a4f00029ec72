"""Pictures of views and grids: MiniGrid's own tiles, guesses blended by their confidence, frames, labels."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int, UInt8
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall, WorldObj
from PIL import Image, ImageDraw, ImageFont

Picture: TypeAlias = UInt8[np.ndarray, "H W 3"]
Color: TypeAlias = tuple[int, int, int]

UNSEEN: Color = (70, 70, 78)
BACKGROUND: Color = (24, 24, 28)
TEXT: Color = (230, 230, 230)
UNKNOWN = 0
"""Object number of a cell that is not seen."""
WALL = np.array(Wall().encode())
"""Object, colour and state of a wall."""


def draw_view(view: Int[np.ndarray, "W V 3"], tile: int = 16) -> Picture:
    """The egocentric view, the agent at the bottom looking up. Unseen cells are grey."""
    columns, rows, _ = view.shape
    picture = np.zeros((rows * tile, columns * tile, 3), dtype=np.uint8)
    for column in range(columns):
        for row in range(rows):
            agent = (column, row) == (columns // 2, rows - 1)
            area = picture[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            area[:] = draw_cell(view[column, row], tile, agent)
    return picture


def draw_cell(cell: Int[np.ndarray, " 3"], tile: int, agent: bool = False) -> Picture:
    """One cell from its object, colour and state numbers; a cell that MiniGrid cannot draw looks empty."""
    kind, color, state = (int(value) for value in cell)
    if kind == UNKNOWN and not agent:
        return np.full((tile, tile, 3), UNSEEN, dtype=np.uint8)
    item = WorldObj.decode(kind, min(color, 5), min(state, 2))
    return Grid.render_tile(item, agent_dir=3 if agent else None, tile_size=tile)


def draw_guess(view: Int[np.ndarray, "W V 3"], confidence: Float[np.ndarray, "W V"], tile: int = 16) -> Picture:
    """A decoded view; the less sure a cell, the more it fades to grey.

    Object and colour are guessed apart, and half a wall is half of something colourless: walls are drawn in the colour
    that they have.
    """
    wall = view[..., :1] == WALL[0]
    certain = draw_view(np.where(wall, WALL, view), tile).astype(float)
    weight = np.kron(confidence.T, np.ones((tile, tile)))[..., None]
    return (weight * certain + (1 - weight) * np.array(UNSEEN)).round().astype(np.uint8)


def mark(picture: Picture, column: float, row: float, tile: int, color: Color, filled: bool = False) -> Picture:
    """A copy with a ring (or dot) at a place of a grid of tiles; places outside are left out."""
    image = Image.fromarray(picture)
    x, y, radius = (column + 0.5) * tile, (row + 0.5) * tile, tile * (0.16 if filled else 0.38)
    box = (x - radius, y - radius, x + radius, y + radius)
    draw = ImageDraw.Draw(image)
    if filled:
        draw.ellipse(box, fill=color)
    else:
        draw.ellipse(box, outline=color, width=max(2, tile // 8))
    return np.asarray(image)


def path(picture: Picture, places: Sequence[tuple[float, float]], tile: int, color: Color) -> Picture:
    """A copy with a ring at the first place of a grid of tiles, and a line of small rings on to the others."""
    image = Image.fromarray(mark(picture, *places[0], tile, color))
    draw = ImageDraw.Draw(image)
    centres = [((column + 0.5) * tile, (row + 0.5) * tile) for column, row in places]
    draw.line(centres, fill=color, width=1)
    for x, y in centres[1:]:
        draw.ellipse((x - 0.2 * tile, y - 0.2 * tile, x + 0.2 * tile, y + 0.2 * tile), outline=color, width=2)
    return np.asarray(image)


def frame(picture: Picture, color: Color, width: int = 3) -> Picture:
    """The picture inside a border."""
    framed = np.empty((picture.shape[0] + 2 * width, picture.shape[1] + 2 * width, 3), dtype=np.uint8)
    framed[:] = color
    framed[width:-width, width:-width] = picture
    return framed


def label(picture: Picture, text: str, size: int = 11) -> Picture:
    """The picture under a line of text, cut to its width."""
    height = size + 5
    image = Image.new("RGB", (picture.shape[1], height), BACKGROUND)
    ImageDraw.Draw(image).text((2, 1), text, fill=TEXT, font=ImageFont.load_default(size))
    return np.concatenate([np.asarray(image), picture])


def legend(picture: Picture, text: str, entries: Sequence[tuple[str, Color]], size: int = 10) -> Picture:
    """The picture over a line of text with coloured names, cut to its width."""
    image = Image.new("RGB", (picture.shape[1], size + 5), BACKGROUND)
    draw, font, x = ImageDraw.Draw(image), ImageFont.load_default(size), 2.0
    for name, color in [(text, TEXT), *entries]:
        draw.text((x, 1), name, fill=color, font=font)
        x += draw.textlength(name, font=font) + 6
    return np.concatenate([picture, np.asarray(image)])


def row_of(pictures: Sequence[Picture], gap: int = 4) -> Picture:
    """Pictures side by side, aligned at the top."""
    height = max(len(picture) for picture in pictures)
    padded = [pad(picture, height, picture.shape[1]) for picture in pictures]
    space = np.full((height, gap, 3), BACKGROUND, dtype=np.uint8)
    return np.concatenate([part for picture in padded for part in (picture, space)][:-1], axis=1)


def column_of(pictures: Sequence[Picture], gap: int = 4) -> Picture:
    """Pictures one below the other, aligned at the left."""
    width = max(picture.shape[1] for picture in pictures)
    padded = [pad(picture, len(picture), width) for picture in pictures]
    space = np.full((gap, width, 3), BACKGROUND, dtype=np.uint8)
    return np.concatenate([part for picture in padded for part in (picture, space)][:-1])


def pad(picture: Picture, height: int, width: int) -> Picture:
    """Fill up with background to the right and below."""
    down, right = height - picture.shape[0], width - picture.shape[1]
    padded = np.empty((height, width, 3), dtype=np.uint8)
    padded[:] = BACKGROUND
    padded[: height - down, : width - right] = picture
    return padded


def plain(height: int, width: int, text: str = "") -> Picture:
    """A grey picture that says why there is none."""
    image = Image.new("RGB", (width, height), UNSEEN)
    ImageDraw.Draw(image).text((6, height // 2 - 8), text, fill=TEXT, font=ImageFont.load_default(11))
    return np.asarray(image)
