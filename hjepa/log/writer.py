"""Writes a run's TensorBoard events and its metrics.csv together."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
    SummaryMetadata,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from hjepa.log.embedding import HEADER, Embedding
from hjepa.log.gif import encode_gif, encode_png
from hjepa.log.layout import layout
from hjepa.log.metrics import MetricsFile
from hjepa.log.tags import find


class BoardWriter:
    """Scalars, pictures, animations, histograms and text of one run, over environment frames."""

    def __init__(self, log_dir: Path, purge_step: int | None = None) -> None:
        """`purge_step`: frames of the checkpoint to resume from; what was logged beyond them is dropped.

        Log before the checkpoint of the same frames is saved, so that nothing is lost or written twice.
        """
        self._metrics = MetricsFile(log_dir / "metrics.csv", purge_step)
        # TensorBoard drops from its purge step on, inclusively, and takes the first session mark it meets as
        # the beginning: a new run needs one too (at 0), or its first resume drops nothing.
        first_new = 0 if purge_step is None else purge_step + 1
        self._writer = SummaryWriter(str(log_dir), purge_step=first_new)

    def scalars(self, values: Mapping[str, float], frames: int) -> None:
        """Write scalars by tag; known tags carry their description."""
        summary = Summary(value=[_scalar(tag, value) for tag, value in values.items()])
        self._writer._get_file_writer().add_summary(summary, frames)
        self._metrics.append({tag: float(value) for tag, value in values.items()}, frames)

    def image(self, tag: str, picture: UInt8[np.ndarray, "H W 3"], frames: int) -> None:
        """Write a picture to the *Images* tab."""
        self._encoded(tag, encode_png(picture), picture.shape[0], picture.shape[1], frames)

    def gif(self, tag: str, animation: UInt8[np.ndarray, "T H W 3"], frames: int, fps: float = 5.0) -> None:
        """Write an animation to the *Images* tab: `SummaryWriter.add_video` silently writes nothing."""
        self._encoded(tag, encode_gif(animation, fps), animation.shape[1], animation.shape[2], frames)

    def histogram(self, tag: str, values: Float[Tensor, "..."], frames: int) -> None:
        """Values that are not finite are left out; nothing is written where none remains."""
        finite = values.detach().float().flatten()
        finite = finite[finite.isfinite()]
        if finite.numel():
            self._writer.add_histogram(tag, finite.cpu().numpy(), frames)

    def text(self, tag: str, markdown: str, frames: int) -> None:
        self._writer.add_text(tag, markdown, frames)

    def embedding(self, tag: str, embedding: Embedding, frames: int) -> None:
        """Write states to the *Projector* tab, as files in a folder named by the frames."""
        labels = [list(row) for row in embedding.labels]
        self._writer.add_embedding(embedding.states, labels, None, frames, tag, list(HEADER))

    def custom_scalars(self, num_levels: int, drives: Sequence[str]) -> None:
        """Arrange the *Custom scalars* tab; once a writer."""
        self._writer.add_custom_scalars(layout(num_levels, drives))

    def _encoded(self, tag: str, content: bytes, height: int, width: int, frames: int) -> None:
        image = Summary.Image(encoded_image_string=content, height=height, width=width, colorspace=3)
        metadata = SummaryMetadata(summary_description=_description(tag))
        summary = Summary(value=[Summary.Value(tag=tag, image=image, metadata=metadata)])
        self._writer._get_file_writer().add_summary(summary, frames)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
        self._metrics.close()


def _scalar(tag: str, value: float) -> Summary.Value:
    metadata = SummaryMetadata(summary_description=_description(tag))
    metadata.plugin_data.plugin_name = "scalars"
    return Summary.Value(tag=tag, simple_value=float(value), metadata=metadata)


def _description(tag: str) -> str:
    known = find(tag)
    if known is None:
        return ""
    return f"{known.meaning}\n\n*Unit*: {known.unit}. *Healthy*: {known.healthy}. *Sick*: {known.sick}."
