"""Training batches: number n is a function of (seed, n, what the store holds), so resuming needs only n."""

import torch

from hjepa.data.store import EpisodeStore
from hjepa.envs.seeds import derive
from hjepa.types import Trajectory


def draw(
    store: EpisodeStore, seed: int, number: int, batch_size: int, window: int, terminal_share: float = 0.0
) -> Trajectory:
    """Batch `number`: windows of `window` records, uniform over streams and starts, with replacement.

    `terminal_share` of the windows are drawn around records at which an episode terminated (uniform over these,
    time-outs do not count): outcomes are rare and everything else is valued by them. While fewer of them are held
    there are only as many such windows: a critic that sees a single lucky outcome in a quarter of its data learns
    little else. A window is consecutive in time and may cross episodes. Raises ValueError where the store holds fewer
    records a stream than `window`.
    """
    starts = store.filled - window + 1
    if starts < 1:
        raise ValueError(f"a window of {window} records needs as many a stream (the store holds {store.filled})")
    generator = torch.Generator().manual_seed(derive(seed, "draw", number))
    place = torch.randint(starts * store.num_envs, (batch_size,), generator=generator)
    row, start = place // starts, store.oldest + place % starts
    terminals = store.terminals() if terminal_share > 0 else place[:0]
    count = min(round(terminal_share * batch_size), len(terminals))
    if count:
        chosen = terminals[torch.randint(len(terminals), (count,), generator=generator)]
        # The record that led to the outcome is always inside, unless the window would leave what is held.
        begin = chosen[:, 1] - torch.randint(1, window, (count,), generator=generator)
        row[:count] = chosen[:, 0]
        start[:count] = begin.clamp(store.oldest, store.oldest + starts - 1)
    return store.windows(row=row, start=start, window=window)
