"""How energies add up, C = sum u IC + sum v TC (L22 eq. 1-3), and codes to count observations by.

Pure functions: perceived and predicted steps go through the same sums, over any batch shape.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

MASK = (1 << 64) - 1
CODE_BITS = 56
"""Low bits of a code, which hold the hash; the bits above hold the object ahead of the agent."""


# ------------------------------------------------------------------------------------------------ energies
def intrinsic_energy(energies: Float[Tensor, "*B U"], weights: Float[Tensor, "*B U"]) -> Float[Tensor, "*B"]:
    """IC(s) = sum over drives of u_i IC_i(s); the two broadcast."""
    return (energies * weights).sum(-1)


def total_energy(
    intrinsic: Float[Tensor, "*B"], critic: Float[Tensor, "*B"], critic_weight: Float[Tensor, "*B"]
) -> Float[Tensor, "*B"]:
    """C(s) = IC(s) + v TC(s) of one level; the three broadcast."""
    return intrinsic + critic_weight * critic


def path_energy(
    intrinsic: Float[Tensor, "*B H"], terminal: Float[Tensor, "*B"], discount: float
) -> Float[Tensor, "*B"]:
    """Sum over t < H of discount^t IC(s_t), plus discount^H times the last state's weighted energy-to-go.

    The critic enters once, at the end: it is a cost-to-go already. `discount` is per step of the path.
    """
    horizon = intrinsic.shape[-1]
    powers = discount ** torch.arange(horizon + 1, device=intrinsic.device, dtype=intrinsic.dtype)
    return intrinsic @ powers[:-1] + powers[-1] * terminal


# ------------------------------------------------------------------------------------------ observation codes
def observation_code(image: UInt8[Tensor, "*B W V 3"]) -> Int[Tensor, "*B"]:
    """Non-negative 60-bit code of a view: equal for equal views, and practically never for others.

    The low 56 bits are a multiplicative hash with fixed odd multipliers; the 4 bits above them are the
    number of the object ahead of the agent (`object_ahead`). The same on every device and in every run.
    """
    cells = image.flatten(-3).long()
    mixed = ((cells + 1) * _multipliers(cells.shape[-1], image.device)).sum(-1)
    # The low bits of a sum of products are weak: fold the high half in twice, as murmur3's finaliser does.
    for factor in (_signed(0xFF51AFD7ED558CCD), _signed(0xC4CEB9FE1A85EC53)):
        mixed = (mixed ^ (mixed >> 33 & (1 << 31) - 1)) * factor
    return (mixed >> 8 & (1 << CODE_BITS) - 1) | _ahead(image).long() << CODE_BITS


def object_ahead(code: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Number of the object directly ahead of the agent in the observation that has this code."""
    return code >> CODE_BITS


def _ahead(image: UInt8[Tensor, "*B W V 3"]) -> UInt8[Tensor, "*B"]:
    """Object in the cell ahead: the agent is in the last row, middle column, facing row 0."""
    return image[..., image.shape[-3] // 2, max(image.shape[-2] - 2, 0), 0].clamp(max=15)


@lru_cache(maxsize=8)
def _multipliers(count: int, device: torch.device) -> Int[Tensor, " count"]:
    """Odd 64-bit numbers from the SplitMix64 sequence (Steele et al. 2014)."""
    numbers = []
    for index in range(1, count + 1):
        mixed = index * 0x9E3779B97F4A7C15 & MASK
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK
        numbers.append(_signed((mixed ^ mixed >> 31) | 1))
    return torch.tensor(numbers, device=device)


def _signed(number: int) -> int:
    """The int64 with the bits of an unsigned 64-bit number."""
    return number - (1 << 64) if number >> 63 else number
