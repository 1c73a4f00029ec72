"""States for TensorBoard's projector, with the true facts that it can colour them by."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.log.facts import carried_name, door_name
from hjepa.log.sample import Sample

HEADER = ("room", "carried", "door", "goal in view", "direction", "column", "row", "episode")
LIMIT = 1000
"""Most states of a level that are shown: the projector's t-SNE runs in the browser."""


@dataclass(frozen=True)
class Embedding:
    """One level's states and, for each, what `HEADER` names."""

    states: Float[Tensor, "N D"]
    labels: tuple[tuple[str, ...], ...]


def embeddings(sample: Sample) -> tuple[Embedding, ...]:
    """Every level's states over a sample, evenly thinned out."""
    rows, time = sample.is_first.shape
    every = max(-(-rows * time // LIMIT), 1)
    facts, episode = (
        sample.facts,
        sample.is_first.cumsum(1) + 1000 * torch.arange(rows)[:, None].to(sample.is_first.device),
    )
    columns = [
        [f"room {number}" if number else "doorway" for number in _thin(facts.room, every)],
        [carried_name(number) for number in _thin(facts.carried, every)],
        [door_name(number) for number in _thin(facts.door, every)],
        [("no", "yes")[number] for number in _thin(facts.goal_in_view, every)],
        *(
            [str(number) for number in _thin(fact, every)]
            for fact in (facts.direction, facts.column, facts.row, episode)
        ),
    ]
    labels = tuple(zip(*columns, strict=True))
    return tuple(Embedding(level.state.flatten(0, 1)[::every].cpu(), labels) for level in sample.levels)


def _thin(values: Tensor, every: int) -> list[int]:
    return values.flatten()[::every].tolist()
