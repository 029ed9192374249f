"""Statistics against textbook values, brute force and simulation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from analysis.evidence.stats import (
    Interval,
    Spread,
    equivalent_from,
    estimate,
    format_p,
    holm,
    mean_interval,
    p_above,
    p_equivalent,
    paired,
    pooled,
    prediction_interval,
    sampling_floor,
)

numbers = st.integers(-500, 500).map(lambda k: k / 10)
samples = st.lists(numbers, min_size=2, max_size=12)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_t_interval_of_three_values_is_the_textbook_one() -> None:
    # t(0.975, 2) = 4.302653; s of 1, 2, 3 is 1.
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval.n == 3


def test_prediction_interval_is_wider_by_the_textbook_factor() -> None:
    values = [71.0, 72.0, 73.5, 72.2]
    ratio = prediction_interval(values).half_width / mean_interval(values).half_width
    assert ratio == pytest.approx(math.sqrt(1 + 4), rel=1e-9)


def test_one_value_has_a_mean_and_no_interval() -> None:
    for interval in (mean_interval([5.0]), prediction_interval([5.0])):
        assert interval.mean == 5.0
        assert all(math.isnan(bound) for bound in (interval.low, interval.high))


def test_t_interval_covers_95_percent_at_three_seeds() -> None:
    rng = np.random.default_rng(7)
    trials = 2000
    hits = 0
    for values in rng.normal(50.0, 2.0, (trials, 3)):
        interval = mean_interval(values.tolist())
        hits += interval.low <= 50.0 <= interval.high
    # Four standard errors of a binomial proportion at 0.95.
    assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_from_ten_seeds_on_a_bootstrap_says_the_same() -> None:
    values = np.random.default_rng(3).normal(70.0, 2.0, 40)
    means = np.random.default_rng(11).choice(values, (20000, 40)).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    interval = mean_interval(values.tolist())
    assert interval.low == pytest.approx(low, abs=0.05)
    assert interval.high == pytest.approx(high, abs=0.05)


@given(samples, numbers)
def test_interval_moves_with_its_values(values: list[float], shift: float) -> None:
    before = mean_interval(values)
    after = mean_interval([v + shift for v in values])
    assert after.low == pytest.approx(before.low + shift, abs=1e-6)
    assert after.high == pytest.approx(before.high + shift, abs=1e-6)


@given(samples)
def test_p_is_below_2_5_percent_exactly_when_the_interval_excludes_zero(
    values: list[float],
) -> None:
    interval = mean_interval(values)
    if min(abs(interval.low), abs(interval.high)) < 1e-9:
        return
    assert (estimate(values).p_above() < 0.025) == (interval.low > 0)
    assert (estimate(values).p_below() < 0.025) == (interval.high < 0)


@given(samples, numbers, st.integers(1, 100).map(lambda k: k / 10))
def test_equivalence_agrees_with_the_90_percent_interval(
    values: list[float], target: float, margin: float
) -> None:
    interval = mean_interval(values, confidence=0.90)
    gap = min(abs(interval.low - target + margin), abs(target + margin - interval.high))
    if gap < 1e-9:
        return
    inside = target - margin < interval.low and interval.high < target + margin
    assert (p_equivalent(values, target, margin) < 0.05) == inside


def test_equivalence_needs_three_times_the_spread_at_three_seeds() -> None:
    # Power at no true difference, n = 3: about 0.13 at a margin of 1 sigma and 0.88 at 3 sigma.
    draws = np.random.default_rng(5).normal(0.0, 1.0, (1500, 3)).tolist()
    power = {m: np.mean([p_equivalent(v, 0.0, m) < 0.05 for v in draws]) for m in (1.0, 3.0)}
    assert power[1.0] == pytest.approx(0.13, abs=0.04)
    assert power[3.0] == pytest.approx(0.88, abs=0.04)


def test_one_seed_shows_nothing() -> None:
    assert (
        estimate([99.0]).p_above()
        == estimate([-99.0]).p_below()
        == p_equivalent([0.0], 0.0, 1.0)
        == 1.0
    )


def test_values_without_spread_decide_by_themselves() -> None:
    assert estimate([2.0, 2.0, 2.0]).p_above(1.0) == 0.0
    assert estimate([2.0, 2.0, 2.0]).p_above(2.0) == 1.0
    assert mean_interval([0.1, 0.1, 0.1]).half_width == 0.0


def test_pairing_keeps_only_common_seeds() -> None:
    assert paired({0: 3.0, 2: 5.0, 7: 1.0}, {2: 1.0, 0: 1.0, 1: 9.0}) == {0: 2.0, 2: 4.0}


def test_holm_gives_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_values)
def test_holm_rejects_what_the_step_down_procedure_rejects(ps: list[float]) -> None:
    rejected = set()
    for step, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        if (len(ps) - step) * ps[i] >= 0.05:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(ps)) if p < 0.05} == rejected


@given(p_values)
def test_holm_never_lowers_a_p_value(ps: list[float]) -> None:
    assert all(adjusted >= p for adjusted, p in zip(holm(ps), ps, strict=True))


@given(p_values)
def test_holm_is_statsmodels_holm(ps: list[float]) -> None:
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])


@given(samples, numbers, st.integers(1, 100).map(lambda k: k / 10))
def test_equivalence_is_statsmodels_two_one_sided_tests(
    values: list[float], target: float, margin: float
) -> None:
    if max(values) == min(values):
        return
    p, _, _ = DescrStatsW(values).ttost_mean(target - margin, target + margin)
    assert p_equivalent(values, target, margin) == pytest.approx(p, abs=1e-9)


@given(samples)
def test_the_interval_is_statsmodels(values: list[float]) -> None:
    low, high = DescrStatsW(values).tconfint_mean()
    interval = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-6)


def test_degrees_of_freedom_of_pooled_rows_add_up() -> None:
    spread = pooled([[1.0, 3.0], [10.0, 10.0, 13.0], [5.0]])
    assert spread is not None
    assert spread.df == 3
    assert spread.sd == pytest.approx(math.sqrt((2.0 + 6.0) / 3))
    assert "2 rows" in spread.source


def test_a_spread_is_never_below_what_counting_varies_by() -> None:
    floor = sampling_floor(75.0, 1024)
    assert floor == pytest.approx(1.353, abs=1e-3)
    assert pooled([[70.0, 70.1]], floor) == pooled([], floor)
    assert pooled([[60.0, 80.0]], floor) == pooled([[60.0, 80.0]])
    assert pooled([[1.0], []]) is None


def test_three_seeds_speak_for_themselves() -> None:
    borrowed = pooled([[0.0, 50.0]])
    assert mean_interval([1.0, 2.0, 3.0], spread=borrowed) == mean_interval([1.0, 2.0, 3.0])
    two = mean_interval([1.0, 2.0], spread=borrowed)
    assert two.half_width == pytest.approx(12.7062 * 35.3553 / math.sqrt(2), rel=1e-5)
    assert two.source


@given(samples)
def test_constant_values_and_shifts_of_estimates(values: list[float]) -> None:
    e = estimate(values)
    assert e.shifted(3.0).p_above(3.0) == pytest.approx(e.p_above(0.0), abs=1e-9)
    assert e.negative().p_below(0.0) == pytest.approx(e.p_above(0.0), abs=1e-12)


FLOORS = st.sampled_from([0.0, 0.3, 1.0, 5.0, 80.0])


@given(samples, numbers, FLOORS)
def test_what_is_shown_is_shown_against_seeds_and_test_images(
    values: list[float], bound: float, floor: float
) -> None:
    """Two tests done plainly, and the worse of them taken."""
    constant = max(values) == min(values)
    gap = (values[0] if constant else float(np.mean(values))) - bound
    error = 0.0 if constant else float(np.std(values, ddof=1)) / math.sqrt(len(values))
    by_seeds = float(gap <= 0) if constant else t.sf(gap / error, len(values) - 1)
    by_images = norm.sf(gap / (floor / math.sqrt(len(values)))) if floor else 0.0
    e = estimate(values, floor=floor)
    assert e.p_above(bound) == pytest.approx(max(by_seeds, by_images), abs=1e-9)
    assert e.p_below(bound) == pytest.approx(
        max(float(gap >= 0) if constant else t.cdf(gap / error, len(values) - 1),
            norm.cdf(gap / (floor / math.sqrt(len(values)))) if floor else 0.0),
        abs=1e-9,
    )  # fmt: skip


@given(samples, FLOORS, st.sampled_from([0.001, 0.05, 0.4, 0.5, 0.6, 0.95, 0.999]))
def test_a_bound_is_the_farther_of_that_of_seeds_and_that_of_test_images(
    values: list[float], floor: float, p: float
) -> None:
    e = estimate(values, floor=floor)
    by_seeds = t.ppf(p, e.df) * e.error if e.error else 0.0
    by_images = norm.ppf(p) * floor / math.sqrt(len(values))
    farther = max(by_seeds, by_images, key=abs)
    assert e.bound(p) == pytest.approx(e.mean + farther, abs=1e-9)
    if abs(p - 0.5) > 0.01 and (e.error or floor):
        beyond = e.p_above(e.bound(p)) if p < 0.5 else e.p_below(e.bound(p))
        assert beyond == pytest.approx(min(p, 1 - p), abs=1e-7)


@given(samples, FLOORS)
def test_intervals_are_no_narrower_than_test_images_allow(
    values: list[float], floor: float
) -> None:
    n = len(values)
    alone, within = mean_interval(values), mean_interval(values, floor=floor)
    least = 1.959964 * floor / math.sqrt(n)
    assert within.half_width == pytest.approx(max(alone.half_width, least), rel=1e-6, abs=1e-9)
    wider = prediction_interval(values, floor=floor).half_width
    assert wider == pytest.approx(within.half_width * math.sqrt(n + 1), rel=1e-6, abs=1e-9)
    assert equivalent_from(values, 1.0, 0.05, floor) == pytest.approx(
        max(abs(b - 1.0) for b in bounds_of(mean_interval(values, 0.90, floor=floor))), abs=1e-9
    )
    assert p_equivalent(values, 0.0, 1.0, floor) >= p_equivalent(values, 0.0, 1.0) - 1e-12
    if floor == 80.0:
        assert p_equivalent(values, 0.0, 1.0, floor) > 0.4


def bounds_of(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_a_single_value_is_told_with_a_borrowed_spread_in_every_interval() -> None:
    spread = Spread(2.0, math.inf, "of others")
    assert mean_interval([5.0], spread=spread).half_width == pytest.approx(2 * 1.959964)
    further = prediction_interval([5.0], spread=spread)
    assert further.half_width == pytest.approx(2 * 1.959964 * math.sqrt(2))
    assert further.source == "of others"


def test_many_p_values_at_once_are_those_of_one_after_the_other() -> None:
    gaps, errors = np.array([1.0, -1.0, 0.0, 2.0, 1.0]), np.array([0.5, 0.5, 0.0, 0.0, math.nan])
    floors = np.array([0.0, 0.2, 0.0, 3.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = p_above(gaps, errors, 2.0, floors)
        apart = [
            p_above(float(g), float(e), 2.0, float(f))
            for g, e, f in zip(gaps, errors, floors, strict=True)
        ]
    assert list(np.asarray(together)) == apart
    assert apart[2] == apart[4] == 1.0
    assert apart[3] == pytest.approx(norm.sf(2 / 3))


def test_words_of_a_pooled_spread() -> None:
    one = pooled([[1.0, 3.0]])
    assert one is not None
    assert one.source == "pooled over 1 row (s = 1.4, 1 degrees of freedom)"
    same = pooled([[1.0, 3.0]], math.sqrt(2))
    assert same == one  # not below the floor


def test_an_accuracy_beyond_its_range_has_no_sampling_error() -> None:
    assert sampling_floor(100.4, 100) == sampling_floor(-0.2, 100) == 0.0


def test_a_margin_of_nothing_is_no_margin() -> None:
    with pytest.raises(AssertionError, match="must be positive, got 0"):
        p_equivalent([1.0, 2.0], 0.0, 0.0)


def test_small_p_values_are_told_as_such() -> None:
    assert format_p(0.01234) == "p = 0.012"
    assert format_p(1e-4) == "p = 0.0001"
    assert format_p(9.9e-5) == "p < 0.0001"
