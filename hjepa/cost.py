"""How energies add up, C = sum u IC + sum v TC (L22 eq. 1-3), and codes to count observations by.

Pure functions: perceived and predicted steps go through the same sums, over any batch shape.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

MASK = (1 << 64) - 1
HASH_BITS = 50
"""Low bits of a code, which hold the hash; above them lie 4 bits for the object in hand, 2 for the state of the object
ahead and 4 for the object ahead."""
CONTEXTS = 1 << 10
"""What those 10 bits can say."""
AGENT = 10
"""MiniGrid's number of the object that the agent is in a full view."""
ACTIONS = 16
"""Most actions that `interaction` tells apart."""
INTERACTIONS = CONTEXTS * ACTIONS


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

    The low 50 bits are a multiplicative hash with fixed odd multipliers; the 10 bits above them say what the agent
    holds and what lies ahead (`object_ahead`, `interaction`). The same on every device and in every run.
    """
    return (hash_of(image.flatten(-3)) >> 8 & (1 << HASH_BITS) - 1) | _context(image) << HASH_BITS


def object_ahead(code: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Number of the object directly ahead of the agent in the observation that has this code."""
    return code >> HASH_BITS + 6


def context(code: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """What lay ahead and what was in hand in the observation that has this code, below `CONTEXTS`."""
    return code >> HASH_BITS & CONTEXTS - 1


def interaction(code: Int[Tensor, "*B"], action: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Number, below `INTERACTIONS`, of doing `action` to what lies ahead with what is in hand; places do not matter."""
    return context(code) * ACTIONS + action.clamp(0, ACTIONS - 1)


def situation(code: Int[Tensor, " B"], carry: Tensor) -> Int[Tensor, " B"]:
    """Code of an observation together with what perception remembers, if that is an exact record (uint8).

    A learned carry changes with the weights and hardly ever repeats: there the observation stands alone.
    """
    if carry.dtype != torch.uint8 or carry[0].numel() == 0:
        return code
    return code ^ hash_of(carry.flatten(1)) >> 4


def hash_of(numbers: Int[Tensor, "*B N"]) -> Int[Tensor, "*B"]:
    """64-bit hash of the last dimension: equal for equal rows, and practically never for others."""
    # The low bits of a sum of products are weak.
    return _mix(((numbers.long() + 1) * _multipliers(numbers.shape[-1], numbers.device)).sum(-1))


def _mix(number: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Fold the high half of a 64-bit number in twice, as murmur3's finaliser does."""
    for factor in (_signed(0xFF51AFD7ED558CCD), _signed(0xC4CEB9FE1A85EC53)):
        number = (number ^ (number >> 33 & (1 << 31) - 1)) * factor
    return number


def _context(image: UInt8[Tensor, "*B W V 3"]) -> Int[Tensor, "*B"]:
    """Object ahead, its state, and the object in hand.

    In a partial view the agent is in the last row, middle column, facing row 0, and its cell shows what it holds. In a
    full view (`FullyObsWrapper`) it is a cell of its own, whose state is its direction, and what it holds is not seen.
    """
    width, height = image.shape[-3:-1]
    cells = image.flatten(-3, -2)
    at_agent = cells[..., 0] == AGENT
    place, full = at_agent.int().argmax(-1), at_agent.any(-1)
    direction = torch.take_along_dim(cells[..., 2], place.unsqueeze(-1), -1).squeeze(-1).long()
    east, south = torch.tensor(((1, 0), (0, 1), (-1, 0), (0, -1)), device=image.device)[direction % 4].unbind(-1)
    column = (place // height + east).clamp(0, width - 1)
    row = (place % height + south).clamp(0, height - 1)
    middle = width // 2 * height + height - 1
    before = torch.where(full, column * height + row, middle - min(height - 1, 1))
    ahead = torch.take_along_dim(cells, before[..., None, None], -2).squeeze(-2).long()
    own = torch.where(full, 0, cells[..., middle, 0].long())
    return ahead[..., 0].clamp(max=15) << 6 | ahead[..., 2].clamp(max=3) << 4 | own.clamp(max=15)


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
