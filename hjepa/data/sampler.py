"""Training batches: number n is a function of (seed, n, what the store holds), so resuming needs only n."""

import torch

from hjepa.data.store import EpisodeStore
from hjepa.envs.seeds import derive
from hjepa.types import Trajectory


def draw(store: EpisodeStore, seed: int, number: int, batch_size: int, window: int) -> Trajectory:
    """Batch `number`: windows of `window` records, uniform over streams and starts, with replacement.

    A window is consecutive in time and may cross episodes. Raises ValueError where the store holds fewer
    records a stream than `window`.
    """
    starts = store.filled - window + 1
    if starts < 1:
        raise ValueError(
            f"a window of {window} records needs as many a stream (the store holds {store.filled})"
        )
    generator = torch.Generator().manual_seed(derive(seed, "draw", number))
    place = torch.randint(starts * store.num_envs, (batch_size,), generator=generator)
    return store.windows(row=place // starts, start=store.oldest + place % starts, window=window)
