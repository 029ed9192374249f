"""One linear model over the rows and seeds of a table: whose spread is it?

Every number y_rs of row r and seed s is row + seed + noise. Pairing rows by seed would estimate the
noise of each difference from that difference alone, with two degrees of freedom at three seeds; one
model over all rows of a scale that measure the same quantity takes the seeds' common part out
once, and learns the noise from all rows together.

The variance of a contrast is moderated by that of the table, by empirical Bayes (Smyth 2004, the
limma model): the pooled variance counts with as many degrees of freedom as the rows' own variances
are alike, at most as many as there are rows. The limit is ours: where spreads differ from row to
row, a few rows may look alike by chance, and limma's own weight, which may be infinite, then
confirms falsely in more than 5 % of tables. `make calibrate` shows both.

Rows with a collapsed or diverged run vary in a way of their own and stand apart: neither do they
lend their spread, nor do they borrow one. A contrast that one of them is in, or whose weights do
not add up to zero, is a sum of means of rows (Welch, Satterthwaite). In it the seeds' common part
stays: that has a variance of its own, by how far the effects of seeds differ beyond what noise
makes of them, with the degrees of freedom of so many seeds.

Shapes: N observations (a seed of a row), R rows, S seeds, P parameters, B tables that differ in
nothing but their values; real ones have no axis B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, polygamma

from analysis.evidence.stats import Estimate, Numbers

Array = npt.NDArray[np.float64]
NO_DF = 1e-6


@dataclass(frozen=True)
class Variance:
    """Estimates of a variance; nothing is known with zero degrees of freedom."""

    value: Numbers
    df: Numbers


NOTHING_KNOWN = Variance(math.nan, 0.0)


@dataclass(frozen=True)
class Prior:
    """The pooled variance of a table, and with how many degrees of freedom it moderates others."""

    pooled: Variance
    weight: Numbers


@dataclass(frozen=True)
class Fit:
    """Least squares of rows and seeds, over the rows that do not stand apart.

    Parameters are rows, then seeds but the first; `shares_NP` says how much of a parameter's
    estimate an observation is. `seeds` is the variance of the seeds' effects, to which noise adds
    `noise_of_seeds` times its own; it is not known where rows have too few seeds in common.
    """

    rows: tuple[str, ...]
    design_NP: Array
    shares_NP: Array
    of_row_RN: Array
    values_N: Array
    variances: Mapping[str, Variance]
    prior: Prior
    seeds: Variance
    noise_of_seeds: float

    @property
    def common(self) -> Numbers:
        """The part of a value's variance that all rows of a seed share."""
        beyond = self.seeds.value - self.noise_of_seeds * self.prior.pooled.value
        return _plain(np.maximum(0.0, np.nan_to_num(beyond)))


@dataclass(frozen=True, eq=False)
class Table:
    """Values of one quantity by row and seed, on the scale on which seeds vary alike.

    Args:
        apart: rows whose runs are not all healthy.
        floors: by row, what one value varies by though no seed does: counting test images.
    """

    name: str
    values: Mapping[str, Mapping[int, Numbers]]
    apart: frozenset[str] = frozenset()
    floors: Mapping[str, float] = field(default_factory=dict)

    def contrast(self, weights: Mapping[str, float]) -> Estimate:
        """The sum of rows, each with its weight.

        Raises:
            KeyError: a row has no values.
        """
        alike = not self.apart & weights.keys() and abs(sum(weights.values())) < 1e-9
        within = self._within(weights) if alike and len(weights) > 1 else None
        return within or self._between(weights)

    def mean(self, row: str) -> Numbers:
        return _plain(np.mean(np.array(list(self.values[row].values())), axis=0))

    def moderated(self, row: str) -> Variance:
        """That of one value of a row, whatever the seed."""
        return self._spread({row: 1.0}, 0.0 if row in self.apart else 1.0)

    @cached_property
    def fit(self) -> Fit | None:
        """None where no row has two seeds."""
        rows = {r: v for r, v in self.values.items() if v and r not in self.apart}
        seeds = sorted({seed for values in rows.values() for seed in values})
        points = [(i, s, y) for i, v in enumerate(rows.values()) for s, y in v.items()]
        if len(points) <= len(rows):
            return None
        place = {seed: i for i, seed in enumerate(seeds)}
        of_row_RN = np.zeros((len(rows), len(points)))
        of_seed_SN = np.zeros((len(seeds), len(points)))
        for n, (i, seed, _) in enumerate(points):
            of_row_RN[i, n] = of_seed_SN[place[seed], n] = 1
        design_NP = np.vstack([of_row_RN, of_seed_SN[1:]]).T
        gram_PP = design_NP.T @ design_NP
        inverse_PP = np.linalg.pinv(gram_PP, hermitian=True)
        shares_NP = design_NP @ inverse_PP
        values_N = np.array([y for _, _, y in points])
        residuals_N = values_N - design_NP @ (shares_NP.T @ values_N)
        free_R = of_row_RN @ (1 - (design_NP * shares_NP).sum(axis=1))
        squares_R = of_row_RN @ residuals_N**2
        variances = {
            name: Variance(_plain(squares_R[i] / free_R[i]), float(free_R[i]))
            for i, name in enumerate(rows)
            if free_R[i] > NO_DF
        }
        prior = prior_of(list(variances.values()))
        seeds_of, noise = NOTHING_KNOWN, 0.0
        if len(seeds) > 1 and np.linalg.matrix_rank(gram_PP, hermitian=True) == len(gram_PP):
            effects = (shares_NP.T @ values_N)[len(rows) :]
            effects_S = np.concatenate([np.zeros_like(effects[:1]), effects])
            seeds_of = Variance(_plain(effects_S.var(axis=0, ddof=1)), len(seeds) - 1.0)
            of_seeds = inverse_PP[len(rows) :, len(rows) :]
            noise = (np.trace(of_seeds) - of_seeds.sum() / len(seeds)) / (len(seeds) - 1)
        return Fit(
            rows=tuple(rows),
            design_NP=design_NP,
            shares_NP=shares_NP,
            of_row_RN=of_row_RN,
            values_N=values_N,
            variances=variances,
            prior=prior,
            seeds=seeds_of,
            noise_of_seeds=float(noise),
        )

    def _within(self, weights: Mapping[str, float]) -> Estimate | None:
        """By the model; None where it has no answer, e.g. since no seed is in common."""
        fit = self.fit
        if fit is None or not np.any(fit.prior.pooled.df):
            return None
        contrast_P = np.zeros(fit.design_NP.shape[1])
        for row, weight in weights.items():
            contrast_P[fit.rows.index(row)] = weight
        share_N = fit.shares_NP @ contrast_P
        if not np.allclose(share_N @ fit.design_NP, contrast_P, atol=1e-8):
            return None
        share_R = dict(zip(fit.rows, fit.of_row_RN @ share_N**2, strict=True))
        known = {r: s for r, s in share_R.items() if s > 1e-12 and r in fit.variances}
        own = combined([(share, fit.variances[row]) for row, share in known.items()])
        if known:
            own = Variance(own.value / sum(known.values()), own.df)
        variance = moderate(own, fit.prior)
        total = sum(share_R.values())
        return Estimate(
            mean=cast(float, _plain(share_N @ fit.values_N)),
            error=cast(float, _plain(np.sqrt(total * variance.value))),
            df=cast(float, variance.df),
            n=min(len(self.values[row]) for row in weights),
            floor=self._floor(share_R),
        )

    def _between(self, weights: Mapping[str, float]) -> Estimate:
        share_R = {row: w**2 / len(self.values[row]) for row, w in weights.items()}
        of_seeds: dict[int, float] = {}
        for row in weights.keys() - self.apart:
            for seed in self.values[row]:
                of_seeds[seed] = of_seeds.get(seed, 0.0) + weights[row] / len(self.values[row])
        variance = self._spread(share_R, sum(share**2 for share in of_seeds.values()))
        return Estimate(
            mean=cast(float, sum(weight * self.mean(row) for row, weight in weights.items())),
            error=cast(float, _plain(np.sqrt(variance.value))),
            df=cast(float, variance.df),
            n=min(len(self.values[row]) for row in weights),
            floor=self._floor(share_R),
        )

    def _spread(self, share_R: Mapping[str, float], share_of_seeds: float) -> Variance:
        """Of so much of each row's noise, and of the seeds' common part.

        Without a model that knows both, rows have but their own values' variance, common part
        included.
        """
        fit = self.fit
        if fit is None or not np.any(fit.prior.pooled.df) or not np.any(fit.seeds.df):
            own = [(s, _own_variance(self.values.get(row, {}))) for row, s in share_R.items()]
            return combined(own)
        noise = combined(
            [
                (share, _own_variance(self.values.get(row, {})))
                if row in self.apart
                else (share, moderate(fit.variances.get(row, NOTHING_KNOWN), fit.prior))
                for row, share in share_R.items()
            ]
        )
        if not share_of_seeds or not np.any(noise.df):
            return noise
        common = share_of_seeds * fit.common
        # Noise is in the seeds' effects too: what they show of it is not counted twice.
        shown = share_of_seeds * fit.noise_of_seeds * fit.prior.pooled.value
        left = np.maximum(0.0, noise.value - shown)
        spent = left**2 / noise.df + np.square(common + shown) / fit.seeds.df
        total = noise.value + common
        with np.errstate(divide="ignore", invalid="ignore"):
            df = np.where(np.equal(common, 0), noise.df, np.square(total) / spent)
        return Variance(_plain(total), _plain(df))

    def _floor(self, share_R: Mapping[str, float]) -> float:
        return math.sqrt(sum(s * self.floors.get(row, 0.0) ** 2 for row, s in share_R.items()))


def prior_of(variances: Sequence[Variance]) -> Prior:
    """Weighs no more than there are rows."""
    if not variances:
        return Prior(NOTHING_KNOWN, 0.0)
    df_R = np.array([float(one.df) for one in variances])
    values_R = np.array([one.value for one in variances])
    pooled = Variance(_plain(np.tensordot(df_R, values_R, 1) / df_R.sum()), float(df_R.sum()))
    rows = len(variances)
    if rows < 2:
        return Prior(pooled, float(rows))
    # No spread at all, e.g. of a count, is no spread of nearly all the others.
    least = np.maximum(1e-6 * pooled.value, np.finfo(float).tiny)
    return Prior(pooled, _plain(np.minimum(alike(np.maximum(values_R, least), df_R), rows)))


def alike(values_R: Array, df_R: Array) -> Array:
    """limma's weight of the pooled variance, by the moments of the variances' logarithms (Smyth
    2004, Sec. 6.2); infinite where they differ by no more than by chance."""
    bias_R = np.log(df_R / 2) - digamma(df_R / 2)
    logs_R = np.log(values_R) + (bias_R if values_R.ndim == 1 else bias_R[:, None])
    beyond_chance = logs_R.var(axis=0, ddof=1) - polygamma(1, df_R / 2).mean()
    found = 2 * _inverse_trigamma(np.maximum(beyond_chance, 1e-9))
    return np.where(beyond_chance > 0, found, math.inf)


def _inverse_trigamma(x: Array) -> Array:
    """Newton's method on 1 / trigamma, which is convex and nearly linear (ibid., appendix)."""
    y = 0.5 + 1 / x
    for _ in range(20):
        value = polygamma(1, y)
        step = value * (1 - value / x) / polygamma(2, y)
        y = y + step
        if not np.any(abs(step) > 1e-8 * y):
            break
    return y


def moderate(own: Variance, prior: Prior) -> Variance:
    """Never with more degrees of freedom than there are in the table."""
    if not np.any(prior.pooled.df):
        return own
    if not np.any(own.df):
        df = np.minimum(prior.weight, prior.pooled.df)
        return Variance(prior.pooled.value, _plain(df))
    df = prior.weight + own.df
    value = (prior.weight * prior.pooled.value + own.df * own.value) / df
    most = np.maximum(prior.pooled.df, own.df)
    return Variance(_plain(value), _plain(np.minimum(df, most)))


def combined(parts: Sequence[tuple[float, Variance]]) -> Variance:
    """Of a sum of independent parts, each times its share (Satterthwaite 1946)."""
    if not parts or any(not np.any(variance.df) for _, variance in parts):
        return NOTHING_KNOWN
    total = sum(share * variance.value for share, variance in parts)
    spent = sum((share * variance.value) ** 2 / variance.df for share, variance in parts)
    least = reduce(np.minimum, (cast(Any, variance.df) for _, variance in parts))
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(np.equal(spent, 0), least, np.divide(np.square(total), spent))
    return Variance(total, _plain(df))


def _own_variance(by_seed: Mapping[int, Numbers]) -> Variance:
    if len(by_seed) < 2:
        return NOTHING_KNOWN
    return Variance(
        _plain(np.var(np.array(list(by_seed.values())), axis=0, ddof=1)), len(by_seed) - 1.0
    )


def _plain(value: Any) -> Numbers:
    """A float, unless there are many."""
    return value if np.ndim(value) else float(value)
