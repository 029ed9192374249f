"""What test items leave open of a mean: held to exact distributions and to scipy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from repro.evals.judged import CONFIDENCE, RESAMPLES, difference, interval
from repro.harness.runs.evaluations import judged


def answers(count: int, right: int) -> np.ndarray:
    return np.arange(count) < right


@pytest.mark.parametrize(("count", "right"), [(200, 140), (50, 3), (5000, 4900), (50_000, 38_000)])
def test_the_interval_of_right_answers_has_the_quantiles_of_the_binomial(
    count: int, right: int
) -> None:
    """Drawing images again is drawing from a binomial: its quantiles are what the draws aim at."""
    found = interval(answers(count, right).astype(float))
    assert found is not None
    exact = stats.binom(count, right / count).ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    spread = np.sqrt(right / count * (1 - right / count) / count)
    assert np.abs(np.array(found) - exact / count).max() < 0.2 * spread + 1 / count


@pytest.mark.parametrize("count", [2, 6, 1000])
def test_where_all_are_right_or_wrong_the_bounds_are_the_exact_ones(count: int) -> None:
    for right in (0, count):
        found = interval(answers(count, right).astype(float))
        exact = stats.binomtest(right, count).proportion_ci(CONFIDENCE, method="exact")
        assert found == pytest.approx((exact.low, exact.high))
    assert interval(np.full(count, 0.3)) is None
    assert interval(np.ones(1)) is None


def test_the_interval_of_shares_is_that_of_scipy_s_bootstrap() -> None:
    shares = np.random.default_rng(1).beta(2, 1, 150)
    found = interval(shares)
    assert found is not None
    theirs = stats.bootstrap(
        (shares,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    tolerance = 0.05 * (theirs.high - theirs.low)
    assert found == pytest.approx((theirs.low, theirs.high), abs=tolerance)
    assert found == interval(shares)  # the same again


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        low, high = interval((rng.random(150) < 0.7).astype(float)) or (1.0, 0.0)
        held += low <= 0.7 <= high
    assert 0.915 < held / 400 < 0.98


def test_a_paired_difference_is_that_of_scipy_and_narrower_than_two_that_err_alike() -> None:
    rng = np.random.default_rng(4)
    hard = rng.random(400) < 0.3
    first = np.where(rng.random(400) < 0.05, hard, ~hard).astype(float)
    other = np.where(rng.random(400) < 0.03, hard, ~hard).astype(float)
    apart, bounds = difference(other, first)
    assert apart == pytest.approx(other.mean() - first.mean())
    assert bounds is not None
    theirs = stats.bootstrap(
        (other, first), lambda a, b, axis: (a - b).mean(axis=axis), paired=True,
        n_resamples=20_000, method="percentile", vectorized=True, rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    assert bounds == pytest.approx((theirs.low, theirs.high), abs=0.06 * (theirs.high - theirs.low))
    low, high = interval(other) or (0.0, 0.0)
    assert bounds[1] - bounds[0] < 0.7 * (high - low)


def test_networks_that_no_image_tells_apart_have_no_interval() -> None:
    right = answers(40, 30).astype(float)
    assert difference(right, right) == (0.0, None)
    assert RESAMPLES == 2000


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_right_and_wrong_are_kept_in_bits(right: list[bool]) -> None:
    kept = judged(torch.tensor(right))
    assert kept.values().tolist() == [float(one) for one in right]
    assert (kept.count, kept.shares) == (len(right), [])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_shares_are_kept_as_they_are(shares: list[float]) -> None:
    assert judged(shares).values().tolist() == shares
