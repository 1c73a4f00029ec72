"""Statistics against published or independently computed values."""

import numpy as np
import pytest

from hjepa.eval.stats import (
    interquartile_mean,
    mcnemar_exact,
    paired_test,
    percentile,
    stratified_bootstrap,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_matches_newcombe(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)


def test_wilson_edges():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0
    low, high = wilson_interval(7, 10)
    assert wilson_interval(3, 10) == pytest.approx((1 - high, 1 - low))
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(11, 10)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 10, 1.0)


def test_interquartile_mean_cuts_a_quarter_at_each_end():
    assert interquartile_mean(np.array([100.0, 3, 2, -50, 4, 1, 5, 6])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert interquartile_mean(np.array([5.0, 1.0])) == 3.0
    assert interquartile_mean(np.arange(10.0)) == np.arange(2, 8).mean()
    assert interquartile_mean(np.stack([np.arange(8.0), np.full(8, 2.0)])) == pytest.approx([3.5, 2.0])


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval():
    scores = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = stratified_bootstrap([scores], lambda drawn: drawn.mean(1), resamples=4000)
    half = 1.96 * scores.std() / 20
    assert low == pytest.approx(scores.mean() - half, abs=0.02)
    assert high == pytest.approx(scores.mean() + half, abs=0.02)


def test_bootstrap_resamples_within_strata():
    # Two constant tasks: resampled apart there is no variance at all, pooled there would be a lot.
    interval = stratified_bootstrap([np.zeros(5), np.ones(5)], lambda drawn: drawn.mean(1))
    assert interval == (0.5, 0.5)
    with pytest.raises(ValueError, match="stratum"):
        stratified_bootstrap([np.zeros(0)])


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        scores = generator.uniform(0.0, 1.0, 30)
        low, high = stratified_bootstrap([scores], resamples=300, seed=trial)
        covered += low <= 0.5 <= high
    assert 0.86 <= covered / 200 <= 0.99


def test_mcnemar_against_the_binomial_distribution():
    assert mcnemar_exact(5, 15) == pytest.approx(0.0413895, abs=1e-6)
    assert mcnemar_exact(15, 5) == mcnemar_exact(5, 15)
    assert mcnemar_exact(0, 6) == pytest.approx(2 / 64)
    assert mcnemar_exact(3, 3) == 1.0
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 2000) < 1e-300


def test_paired_test_counts_discordant_pairs():
    first = np.array([True, True, False, True, False])
    second = np.array([True, False, True, False, False])
    assert paired_test(first, second) == (2, 1, 1.0)


def test_percentile():
    assert percentile(np.array([1.0, 2.0, 3.0, 4.0]), 50) == 2.5
    assert np.isnan(percentile(np.zeros(0), 50))
