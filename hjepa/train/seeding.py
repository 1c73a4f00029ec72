"""Randomness as a function of names: a run resumes exactly without saving any generator's state."""

import torch

from hjepa.envs.seeds import derive

__all__ = ["derive", "seed_everything_at"]


def seed_everything_at(seed: int, *names: str | int) -> None:
    """Seed torch's global generators (CPU and CUDA) for the moment that `names` spell: ("update", 1200).

    The package draws from torch's global generator only, so nothing else has to be seeded.
    """
    number = derive(seed, *names)
    # `torch.manual_seed` records a traceback for CUDA even where there is none, 2 % of an update.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)
