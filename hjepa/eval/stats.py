"""Statistics of evaluations: intervals, interquartile mean (IQM), stratified bootstrap, paired tests."""

from collections.abc import Callable, Sequence
from math import comb, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float

Interval = tuple[float, float]
Statistic = Callable[[Float[np.ndarray, "resamples scores"]], Float[np.ndarray, " resamples"]]


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a success rate (Wilson 1927); (0, 1) where there is no trial.

    Raises ValueError unless 0 <= successes <= trials and 0 < confidence < 1.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0..{trials}, got {successes}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    center = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At 0 and at all successes the bound is exactly the rate; rounding would miss it by an ulp.
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == trials else center + half
    return low, high


def interquartile_mean(scores: Float[np.ndarray, "*runs scores"]) -> Float[np.ndarray, "*runs"]:
    """Mean of the middle half of the last axis (Agarwal et al. 2021, arXiv 2108.13264).

    A quarter of the scores, rounded down, is cut off at each end, as in rliable.
    """
    cut = scores.shape[-1] // 4
    middle = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return middle.mean(axis=-1)


def stratified_bootstrap(
    strata: Sequence[Float[np.ndarray, " runs"]],
    statistic: Statistic = interquartile_mean,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic over all strata's scores together.

    Every stratum (a task) is resampled on its own, with replacement, to its own size (arXiv 2108.13264,
    section 4).
    `statistic` maps [resamples, scores] to [resamples]. Raises ValueError where a stratum is empty.
    """
    if not strata or any(len(stratum) == 0 for stratum in strata):
        raise ValueError("every stratum needs at least one score")
    generator = np.random.default_rng(seed)
    drawn = [
        np.asarray(stratum, dtype=float)[generator.integers(0, len(stratum), (resamples, len(stratum)))]
        for stratum in strata
    ]
    values = statistic(np.concatenate(drawn, axis=1))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided exact McNemar p-value from the pairs in which only the first, or only the second, succeeded.

    The discordant pairs are binomial with probability 1/2 under the null; 1.0 where there is none.
    """
    discordant = first_only + second_only
    tail = sum(comb(discordant, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / 2**discordant)


def paired_test(first: Bool[np.ndarray, " E"], second: Bool[np.ndarray, " E"]) -> tuple[int, int, float]:
    """Pairs in which only the first succeeded, only the second did, and McNemar's exact p-value."""
    first_only = int(np.sum(first & ~second))
    second_only = int(np.sum(second & ~first))
    return first_only, second_only, mcnemar_exact(first_only, second_only)


def percentile(values: Float[np.ndarray, " n"], percent: float) -> float:
    """Linearly interpolated percentile (0..100); nan where there is no value."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")
