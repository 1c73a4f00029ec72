"""Loss functions of the world models: anti-collapse terms, prediction error, inverse dynamics, slowness.

Pure functions of tensors that return (loss, info); `info` holds detached scalars under plain names. Row masks
keep shapes static: a row outside the mask weighs nothing, and an empty mask gives 0.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hjepa.interfaces import Loss


def masked_mean(values: Float[Tensor, "*R"], mask: Bool[Tensor, "*R"]) -> Float[Tensor, ""]:
    """Mean of `values` where `mask`; 0 where the mask is empty."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def weighted_mean(values: Float[Tensor, "*R"], weight: Float[Tensor, "*R"]) -> Float[Tensor, ""]:
    """Mean of `values`, each counted by its `weight` (at least 0); 0 where nothing counts."""
    return (values * weight).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


def centre_windows(states: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """Subtract each window's mean, so that statistics are blind to what is constant within an episode."""
    return states - states.mean(1, keepdim=True)


def std_hinge(states: Float[Tensor, "*R D"], mask: Bool[Tensor, "*R"] | None = None, floor: float = 1.0) -> Loss:
    """VICReg's variance term (Bardes et al. 2022, eq. 1): mean over dimensions of max(0, floor - std)."""
    centred, count = _centre(states, mask)
    std = (centred.square().sum(0) / (count - 1).clamp_min(1) + 1e-4).sqrt()
    return F.relu(floor - std).mean(), {"std": std.mean().detach()}


def off_diagonal_covariance(states: Float[Tensor, "*R D"], mask: Bool[Tensor, "*R"] | None = None) -> Float[Tensor, ""]:
    """Mean of the squared off-diagonal entries of the covariance (VICReg eq. 4, divided by D (D - 1))."""
    centred, count = _centre(states, mask)
    covariance = centred.T @ centred / (count - 1).clamp_min(1)
    dim = states.shape[-1]
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / max(dim * (dim - 1), 1)


def variance_covariance(
    states: Float[Tensor, "*R D"],
    mask: Bool[Tensor, "*R"] | None = None,
    variance: float = 1.0,
    covariance: float = 1.0,
    floor: float = 1.0,
) -> Loss:
    """Weighted sum of `std_hinge` and `off_diagonal_covariance`: 0 for white states of std >= `floor`."""
    hinge, info = std_hinge(states, mask, floor)
    redundancy = off_diagonal_covariance(states, mask)
    info |= {"std_hinge": hinge.detach(), "covariance": redundancy.detach()}
    return variance * hinge + covariance * redundancy, info


def _centre(states: Tensor, mask: Tensor | None) -> tuple[Float[Tensor, "R D"], Float[Tensor, ""]]:
    """Rows minus the mean of the rows in the mask (0 outside it), and how many rows count."""
    rows = states.reshape(-1, states.shape[-1])
    if mask is None:
        return rows - rows.mean(0), rows.new_tensor(float(rows.shape[0]))
    weight = mask.reshape(-1, 1).to(rows.dtype)
    count = weight.sum()
    mean = (rows * weight).sum(0) / count.clamp_min(1)
    return (rows - mean) * weight, count


def sigreg(states: Float[Tensor, "*G R D"], directions: int = 1024, knots: int = 17) -> Loss:
    """Distance of the rows' distribution from N(0, I) (SIGReg, LeJEPA arXiv 2511.08544).

    Epps-Pulley statistic of the projections on `directions` random unit vectors drawn anew: squared distance
    of the empirical characteristic function from exp(-t^2/2) at `knots` points of [0, 3], trapezoid weights
    times that same window, times the number of rows R; mean over directions and groups G. About 1 for samples
    of N(0, I), whatever R, and proportional to R for anything else.
    """
    count, dim = states.shape[-2:]
    directions_ = F.normalize(torch.randn(dim, directions, device=states.device, dtype=states.dtype), dim=0)
    t = torch.linspace(0, 3, knots, device=states.device, dtype=states.dtype)
    window = torch.exp(-t.square() / 2)
    weights = torch.full_like(t, 3 / (knots - 1))
    # The integrand is even in t, so the integral over [-3, 3] is twice that over [0, 3].
    weights = torch.cat((weights[:1], 2 * weights[1:-1], weights[-1:])) * window
    angle = (states @ directions_).unsqueeze(-1) * t
    error = (angle.cos().mean(-3) - window).square() + angle.sin().mean(-3).square()
    loss = (error @ weights).mean() * count
    return loss, {"sigreg": loss.detach()}


def infonce(
    predictions: Float[Tensor, "R D"],
    targets: Float[Tensor, "R D"],
    mask: Bool[Tensor, " R"],
    temperature: float = 0.1,
    negatives: int = 512,
) -> Loss:
    """Contrast each prediction's own target with up to `negatives` others (van den Oord et al. 2018, eq. 4).

    Similarity is the cosine. Negatives are drawn anew among the rows; those outside the mask do not count.
    """
    predictions, targets = F.normalize(predictions, dim=-1), F.normalize(targets, dim=-1)
    rows = torch.randperm(targets.shape[0], device=targets.device)[:negatives]
    other = predictions @ targets[rows].T / temperature
    own = torch.arange(targets.shape[0], device=targets.device).unsqueeze(1) == rows
    other = other.masked_fill(own | ~mask[rows], -torch.inf)
    positive = (predictions * targets).sum(-1, keepdim=True) / temperature
    logits = torch.cat((positive, other), -1)
    loss = masked_mean(logits.logsumexp(-1) - positive.squeeze(-1), mask)
    hit = (positive >= other.amax(-1, keepdim=True)).squeeze(-1).float()
    return loss, {"infonce": loss.detach(), "infonce_accuracy": masked_mean(hit, mask).detach()}


def prediction_error(
    predictions: Float[Tensor, "*R D"], targets: Float[Tensor, "*R D"], mask: Bool[Tensor, "*R"]
) -> Loss:
    """Squared error, mean over dimensions and the rows in the mask (the invariance term of a JEPA)."""
    loss = masked_mean((predictions - targets).square().mean(-1), mask)
    return loss, {"prediction_error": loss.detach()}


def inverse_dynamics(logits: Float[Tensor, "*R A"], weights: Float[Tensor, "*R A"], mask: Bool[Tensor, "*R"]) -> Loss:
    """Cross-entropy in nats of the action between two states, given its (one-hot or soft) weights."""
    weights = weights.detach()
    loss = masked_mean(-(weights * logits.log_softmax(-1)).sum(-1), mask)
    hit = (logits.argmax(-1) == weights.argmax(-1)).float()
    return loss, {
        "inverse_dynamics": loss.detach(),
        "inverse_dynamics_accuracy": masked_mean(hit, mask).detach(),
    }


def temporal_variance(states: Float[Tensor, "B T D"], floor: float = 1.0) -> Loss:
    """Hinge on each dimension's std over a window's time, mean over windows (PLDM; against slow features)."""
    std = (states.var(1) + 1e-4).sqrt()
    loss = F.relu(floor - std).mean()
    return loss, {"temporal_variance": loss.detach()}


def time_similarity(states: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T_1"]) -> Loss:
    """Mean squared difference of neighbouring records, where `mask` says they belong together (eb_jepa)."""
    loss = masked_mean((states[:, 1:] - states[:, :-1]).square().mean(-1), mask)
    return loss, {"time_similarity": loss.detach()}
