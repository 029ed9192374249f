"""Statistics over seeds: intervals, equivalence, prediction, paired differences, Holm, pooling.

Means of a handful of seeds have Student's t intervals at any n: a percentile bootstrap of three
values covers the mean 74 % of the time where it claims 95 %, and from ten on the two agree.
Equivalence is two one-sided tests (Schuirmann 1987) against a margin fixed before the runs.

Three seeds or more speak with their own spread. One or two have none worth the name, so theirs is
borrowed: pooled over the healthy rows of the same column (its degrees of freedom add up), and never
below what counting right answers on so many test images varies by anyway (`Spread`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

CONFIDENCE = 0.95
OWN_SPREAD_FROM = 3  # seeds
Numbers = float | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A standard deviation between seeds that was not estimated from the values at hand."""

    sd: float
    df: float
    source: str  # in words, for a footnote


@dataclass(frozen=True)
class Estimate:
    """A mean of n values; its standard error is NaN where nothing is known of their spread.

    `floor` is the part of its error that is known without any seeds: counting right answers among
    so many test images. Whatever is shown must be shown against either.
    """

    mean: float
    error: float
    df: float
    n: int
    source: str = ""  # of a borrowed spread
    floor: float = 0.0

    @property
    def sd(self) -> float:
        return self.error * math.sqrt(self.n)

    def bound(self, p: float) -> float:
        """The value below which the mean lies with confidence `p`."""
        if math.isnan(self.error):
            return math.nan
        by_seeds = float(stdtrit(self.df, p)) * self.error if self.error else 0.0
        by_images = float(ndtri(p)) * self.floor if self.floor else 0.0
        return self.mean + (min if p < 0.5 else max)(by_seeds, by_images)

    def p_above(self, bound: float = 0.0) -> float:
        """One-sided p of "the mean is at or below `bound`"; small speaks for a mean above it.

        Values without any spread decide by themselves: 0 above the bound, 1 otherwise. Where no
        spread is known nothing is shown: 1.
        """
        return cast(float, p_above(self.mean - bound, self.error, self.df, self.floor))

    def p_below(self, bound: float = 0.0) -> float:
        """One-sided p of "the mean is at or above `bound`"; small speaks for a mean below it."""
        return self.negative().p_above(-bound)

    def shifted(self, by: float) -> Estimate:
        return replace(self, mean=self.mean + by)

    def negative(self) -> Estimate:
        return replace(self, mean=-self.mean)


def p_above(gap: Numbers, error: Numbers, df: Numbers, floor: Numbers = 0.0) -> Numbers:
    """One-sided p of "the true gap is at or below 0", against seeds and test images, the larger.

    Args:
        gap, error, df, floor: numbers, or arrays of many at once.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        by_seeds = np.where(error == 0, gap <= 0, stdtr(df, -np.divide(gap, error)))
        by_images = np.where(floor == 0, gap <= 0, ndtr(-np.divide(gap, floor)))
    p = np.where(np.isnan(error), 1.0, np.maximum(by_seeds, np.where(floor == 0, 0, by_images)))
    return p if p.ndim else float(p)


@dataclass(frozen=True)
class Interval:
    """A mean of n values, with bounds that are NaN where nothing is known of their spread."""

    mean: float
    low: float
    high: float
    n: int
    source: str = ""

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def estimate(values: Sequence[float], spread: Spread | None = None, floor: float = 0.0) -> Estimate:
    """The mean of `values`; below `OWN_SPREAD_FROM` of them with a borrowed spread, if given.

    Args:
        floor: what one value varies by though no seed does.
    """
    n = len(values)
    assert n > 0, "an estimate needs at least one value"
    mean = float(np.mean(values))
    if spread and n < OWN_SPREAD_FROM:
        return Estimate(mean, spread.sd / math.sqrt(n), spread.df, n, spread.source)
    if n == 1:
        return Estimate(mean, math.nan, 0, 1)
    constant = max(values) == min(values)
    sd = 0.0 if constant else float(np.std(values, ddof=1))
    least = floor / math.sqrt(n)
    return Estimate(values[0] if constant else mean, sd / math.sqrt(n), n - 1, n, floor=least)


def mean_interval(
    values: Sequence[float],
    confidence: float = CONFIDENCE,
    spread: Spread | None = None,
    floor: float = 0.0,
) -> Interval:
    """Confidence interval of the mean."""
    return _interval(estimate(values, spread, floor), confidence)


def prediction_interval(
    values: Sequence[float],
    confidence: float = CONFIDENCE,
    spread: Spread | None = None,
    floor: float = 0.0,
) -> Interval:
    """Where one further seed would fall: mean +- t s sqrt(1 + 1/n)."""
    e = estimate(values, spread, floor)
    by = math.sqrt(e.n + 1)
    return _interval(replace(e, error=e.error * by, floor=e.floor * by), confidence)


def p_equivalent(
    values: Sequence[float], target: float, margin: float, floor: float = 0.0
) -> float:
    """TOST: p of "the mean is at least `margin` away from `target`"; small speaks for equality.

    One-sample on the values of one row; paired on differences by seed, with target 0.
    Below 0.05 exactly when the 90 % t interval lies strictly inside target +- margin.
    """
    assert margin > 0, f"an equivalence margin must be positive, got {margin}"
    e = estimate(values, floor=floor)
    return max(e.p_above(target - margin), e.p_below(target + margin))


def equivalent_from(
    values: Sequence[float], target: float, alpha: float, floor: float = 0.0
) -> float:
    """The smallest margin at which TOST at level `alpha` finds the mean equal to `target`."""
    e = estimate(values, floor=floor)
    return max(abs(e.bound(alpha) - target), abs(e.bound(1 - alpha) - target))


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    """a - b for every seed that both have, in the order of the seeds."""
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def pooled(groups: Sequence[Sequence[float]], floor: float = 0.0) -> Spread | None:
    """The common spread of several rows, each about its own mean; None where no row has two values.

    Args:
        floor: the least standard deviation that the measurement itself has.
    """
    several = [g for g in groups if len(g) > 1]
    if not several:
        return (
            Spread(floor, math.inf, f"sampling of the test images ({floor:.2g})") if floor else None
        )
    df = sum(len(g) - 1 for g in several)
    sd = math.sqrt(sum((len(g) - 1) * float(np.var(g, ddof=1)) for g in several) / df)
    if sd < floor:
        return Spread(floor, math.inf, f"sampling of the test images ({floor:.2g})")
    rows = f"{len(several)} row{'s' if len(several) > 1 else ''}"
    return Spread(sd, df, f"pooled over {rows} (s = {sd:.2g}, {df} degrees of freedom)")


def sampling_floor(percent: float, images: int) -> float:
    """Standard deviation in points of an accuracy counted on so many independent test images."""
    share = min(max(percent / 100, 0.0), 1.0)
    return 100 * math.sqrt(share * (1 - share) / images)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979).

    Not statsmodels' multipletests, which the tests compare it with: that one collects garbage at
    every call, a second each with ten thousand records in memory.
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    factors = holm_steps(p_values)
    for i in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        running = max(running, min(1.0, factors[i] * p_values[i]))
        adjusted[i] = running
    return adjusted


def holm_steps(p_values: Sequence[float]) -> list[int]:
    """By how much Holm multiplies each p: m for the smallest, 1 for the largest."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    factors = [0] * len(p_values)
    for rank, i in enumerate(order):
        factors[i] = len(p_values) - rank
    return factors


def format_p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def _interval(e: Estimate, confidence: float) -> Interval:
    half = e.bound((1 + confidence) / 2) - e.mean
    return Interval(e.mean, e.mean - half, e.mean + half, e.n, e.source)
