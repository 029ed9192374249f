"""Statistics over seeds: intervals, equivalence, prediction, paired differences, Holm.

A handful of seeds is all there ever is, so up to ten of them the interval of a mean is Student's t:
a percentile bootstrap of three values covers the mean 74 % of the time where it claims 95 %.
Equivalence is two one-sided tests (Schuirmann 1987) against a margin fixed before the runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

T_UP_TO = 10  # seeds; beyond, the bootstrap no longer undercovers badly
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean of n values, with bounds that are NaN where n values cannot give any (n < 2)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Confidence interval of the mean: t up to `T_UP_TO` values, percentile bootstrap beyond."""
    n = len(values)
    assert n > 0, "an interval needs at least one value"
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    if _constant(values):
        return Interval(mean, mean, mean, n)
    if n <= T_UP_TO:
        bounds = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    else:
        bounds = stats.bootstrap(
            (np.asarray(values, dtype=float),),
            np.mean,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(0),  # the same records must print the same table
        ).confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high), n)


def prediction_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Where one further seed would fall: mean +- t s sqrt(1 + 1/n)."""
    n = len(values)
    assert n > 0, "an interval needs at least one value"
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    spread = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * spread * math.sqrt(1 + 1 / n)
    return Interval(mean, mean - half, mean + half, n)


def p_above(values: Sequence[float], bound: float = 0.0) -> float:
    """One-sided p of "the mean is at or below `bound`"; small speaks for a mean above it.

    Student's t. Values without any spread decide by themselves: 0 above the bound, 1 otherwise.
    Fewer than two values can show nothing: 1.
    """
    if len(values) < 2:
        return 1.0
    if _constant(values):
        return 0.0 if values[0] > bound else 1.0
    return float(stats.ttest_1samp(values, bound, alternative="greater").pvalue)


def p_below(values: Sequence[float], bound: float = 0.0) -> float:
    """One-sided p of "the mean is at or above `bound`"; small speaks for a mean below it."""
    return p_above([-v for v in values], -bound)


def p_equivalent(values: Sequence[float], target: float, margin: float) -> float:
    """TOST: p of "the mean is at least `margin` away from `target`"; small speaks for equality.

    One-sample on the values of one row; paired on differences by seed, with target 0.
    Below 0.05 exactly when the 90 % t interval lies strictly inside target +- margin.
    """
    assert margin > 0, f"an equivalence margin must be positive, got {margin}"
    return max(p_above(values, target - margin), p_below(values, target + margin))


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    """a - b for every seed that both have, in the order of the seeds."""
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    m = len(p_values)
    adjusted = [0.0] * m
    running = 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def format_p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def _constant(values: Sequence[float]) -> bool:
    return max(values) == min(values)
