"""Whether the critics are right: energy-to-go that was said against the discounted energy that then came."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hjepa.cost import intrinsic_energy
from hjepa.log import sample_tags
from hjepa.log.prediction import FEWEST
from hjepa.log.sample import Sample

SEEN = 0.3
"""Records count where this share of the discounted future was seen; beyond it the critic speaks for itself."""


@dataclass(frozen=True)
class Realised:
    """What came after each record of a sample."""

    energy: Float[Tensor, "B T"]
    """Discounted weighted energy from the next record on; the critic's word where the episode was cut."""
    known: Bool[Tensor, "B T"]


def realised(sample: Sample, level: int, discount: float) -> Realised:
    """Energy-to-go as it came, in the same units for every level: discounted an environment step."""
    come = intrinsic_energy(sample.energies, sample.task.intrinsic_weights)
    value, over = sample.levels[level].value, sample.terminated | sample.truncated
    # Of the last record nothing is seen; a time limit is no end.
    after = sample.to_come[..., level]
    ahead = torch.where(sample.terminated[:, -1], after[:, -1], value[:, -1])
    unseen = torch.where(sample.terminated[:, -1], 0.0, torch.ones_like(ahead))
    energies, rests = [ahead], [unseen]
    for t in range(value.shape[1] - 2, -1, -1):
        ahead = come[:, t + 1] + discount * ahead
        ahead = torch.where(
            sample.terminated[:, t], after[:, t], torch.where(sample.truncated[:, t], value[:, t], ahead)
        )
        unseen = torch.where(sample.terminated[:, t], 0.0, torch.where(sample.truncated[:, t], 1.0, discount * unseen))
        energies.append(ahead)
        rests.append(unseen)
    rest = torch.stack(rests[::-1], 1)
    return Realised(torch.stack(energies[::-1], 1), ~over & (rest <= 1 - SEEN))


def calibration_scalars(sample: Sample, discount: float) -> dict[str, float]:
    """Mean difference and correlation by tag; {} where no episode was seen far enough."""
    scalars: dict[str, float] = {}
    for level, decision in enumerate(sample.levels):
        came = realised(sample, level, discount)
        if int(came.known.sum()) < FEWEST:
            continue
        said, met = decision.value[came.known], came.energy[came.known]
        scalars[sample_tags.CRITIC_CALIBRATION(level)] = float((said - met).mean())
        if float(said.std()) > 0 and float(met.std()) > 0:
            scalars[sample_tags.CRITIC_REALISED(level)] = float(torch.corrcoef(torch.stack([said, met]))[0, 1])
    return scalars
