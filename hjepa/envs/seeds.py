"""Seeds as pure functions of names: nothing has to be stored to draw the same ones again.

Training layouts come from seeds below 2**30 and held-out layouts from seeds in [2**30, 2**31), so that the
two can never meet, whatever the run.
"""

import hashlib

SPLIT = 2**30
"""First held-out seed; below it lie the training seeds."""


def derive(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the purpose that `names` spell, by SHA-256.

    The parts are separated and marked by type, so that (1, "a", 12) and (1, "a", 1, 2) or (1, "a", "12")
    differ.
    """
    text = "\x1f".join([repr(int(seed)), *(repr(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def training_seed(run_seed: int, env: int, episode: int) -> int:
    """Layout seed of a run's episode, in [0, 2**30): `env` is the row in the batch, episodes count from 0."""
    return derive(run_seed, "training", env, episode) % SPLIT


def held_out_seed(suite_seed: int, index: int) -> int:
    """Layout seed number `index` of a held-out suite, in [2**30, 2**31); no two of a suite's are equal.

    An odd stride modulo a power of two visits every seed once before it repeats.
    """
    offset = derive(suite_seed, "held-out", "offset")
    stride = derive(suite_seed, "held-out", "stride") | 1
    return SPLIT + (offset + index * stride) % SPLIT
