"""Experience: the episode store, windows drawn from it, each level's steps in them, Minari in and out."""

from hjepa.data.sampler import draw
from hjepa.data.spans import actions_taken, spans
from hjepa.data.store import EpisodeStore

__all__ = ["EpisodeStore", "actions_taken", "draw", "spans"]
