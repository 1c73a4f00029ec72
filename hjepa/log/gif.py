"""Animated GIFs and PNGs from frames, by Pillow alone."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def encode_gif(frames: UInt8[np.ndarray, "T H W 3"], fps: float = 5.0, hold: float = 1.5) -> bytes:
    """Encode frames as a looping GIF; the last is held for `hold` seconds.

    Raises ValueError for another shape or dtype, and for no frame at all.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise ValueError(f"frames must be uint8 [T, H, W, 3] with T > 0, got {frames.dtype} {frames.shape}")
    # One palette for all frames, from a sample of them: with one each, unchanged areas flicker.
    sample = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(np.concatenate(list(sample))).quantize(256, method=Image.Quantize.MEDIANCUT)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = max(20, round(1000 / fps))
    durations = [duration] * (len(images) - 1) + [max(duration, round(1000 * hold))]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        optimize=False,
    )
    return buffer.getvalue()


def save_gif(path: Path, frames: UInt8[np.ndarray, "T H W 3"], fps: float = 5.0) -> None:
    """Write a GIF file; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_gif(frames, fps))


def encode_png(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write a PNG file; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(picture))
