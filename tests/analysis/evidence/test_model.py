"""The linear model against statsmodels and scipy, and what its variances must obey."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel
from statsmodels.formula.api import ols

from analysis.evidence.model import NOTHING_KNOWN, Table, Variance, combined, moderate, prior_of

Values = dict[str, dict[int, float]]


def drawn(rows: int, seeds: int, missing: int = 0, seed: int = 0) -> Values:
    """Rows and seeds that differ, without some of the values."""
    random = np.random.default_rng(seed)
    effects = random.normal(0, 2.0, seeds)
    values = {
        f"r{r}": {s: 70.0 + r + effects[s] + random.normal() for s in range(seeds)}
        for r in range(rows)
    }
    for _ in range(missing):
        row = values[f"r{random.integers(rows)}"]
        if len(row) > 2:
            row.pop(int(random.choice(list(row))))
    return values


def fitted(values: Values) -> tuple[object, pd.DataFrame]:
    long = pd.DataFrame([(r, s, y) for r, by in values.items() for s, y in by.items()])
    long.columns = ["row", "seed", "y"]
    return ols("y ~ 0 + C(row) + C(seed)", long).fit(), long


@pytest.mark.parametrize("missing", [0, 5])
@pytest.mark.parametrize("weights", [{"r0": 1.0, "r1": -1.0}, {"r2": 1.0, "r0": -0.5, "r4": -0.5}])
def test_contrasts_are_those_of_least_squares(missing: int, weights: dict[str, float]) -> None:
    values = drawn(6, 5, missing)
    fit, _ = fitted(values)
    terms = " + ".join(f"{w} * C(row)[{row}]" for row, w in weights.items())
    oracle = fit.t_test(terms)  # type: ignore[attr-defined]
    table = Table("t", values)
    ours = table.contrast(weights)
    assert ours.mean == pytest.approx(float(oracle.effect[0]))
    assert table.fit is not None
    pooled = table.fit.prior.pooled
    assert (pooled.value, pooled.df) == pytest.approx(
        (fit.mse_resid, fit.df_resid)  # type: ignore[attr-defined]
    )
    # The error is that of least squares, but for the moderated variance in the pooled one's place.
    share = (float(oracle.sd[0, 0]) ** 2) / pooled.value
    own = ours.error**2 / share
    variances = [table.fit.variances[row].value for row in weights]
    low, high = min(*variances, pooled.value), max(*variances, pooled.value)
    assert low <= own <= high
    assert ours.df <= pooled.df


def test_a_table_of_equal_variances_has_the_t_test_of_least_squares() -> None:
    """Residuals that are alike in all rows leave nothing to moderate."""
    pattern = np.array([[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]], float)
    values = {f"r{r}": {s: 10.0 * r + s + pattern[r, s] for s in range(4)} for r in range(4)}
    fit, _ = fitted(values)
    oracle = fit.t_test("C(row)[r3] - C(row)[r1]")  # type: ignore[attr-defined]
    ours = Table("t", values).contrast({"r3": 1.0, "r1": -1.0})
    assert (ours.mean, ours.error) == pytest.approx((oracle.effect[0], oracle.sd[0, 0]))


def test_two_rows_have_the_paired_t_test() -> None:
    values = drawn(2, 7)
    ours = Table("t", values).contrast({"r0": 1.0, "r1": -1.0})
    oracle = ttest_rel(list(values["r0"].values()), list(values["r1"].values()))
    assert ours.df == pytest.approx(oracle.df)
    assert 2 * min(ours.p_above(), ours.p_below()) == pytest.approx(oracle.pvalue)


def test_one_row_has_the_t_test_of_its_mean() -> None:
    values = drawn(1, 6)
    ours = Table("t", values).contrast({"r0": 1.0})
    oracle = ttest_1samp(list(values["r0"].values()), 71.0)
    assert ours.df == 5
    assert 2 * min(ours.p_above(71.0), ours.p_below(71.0)) == pytest.approx(oracle.pvalue)


def test_a_row_that_stands_apart_is_compared_by_welch() -> None:
    """With another one that does, too: neither borrows, and seeds have nothing in common."""
    values = drawn(2, 6, missing=1)
    ours = Table("t", values, frozenset(values)).contrast({"r0": 1.0, "r1": -1.0})
    a, b = (list(by.values()) for by in values.values())
    oracle = ttest_ind(a, b, equal_var=False)
    assert ours.df == pytest.approx(oracle.df)
    assert 2 * min(ours.p_above(), ours.p_below()) == pytest.approx(oracle.pvalue)


def test_what_seeds_have_in_common_drops_out_of_differences_and_stays_in_sums() -> None:
    values = drawn(5, 6)
    shifted = {r: {s: y + 100.0 * s for s, y in by.items()} for r, by in values.items()}
    difference = {"r0": 1.0, "r1": -1.0}
    plain, moved = (Table("t", v).contrast(difference) for v in (values, shifted))
    assert (plain.mean, plain.error) == pytest.approx((moved.mean, moved.error))
    mean = Table("t", shifted).contrast({"r0": 1.0})
    of_seeds = np.std(100.0 * np.arange(6), ddof=1) / math.sqrt(6)
    assert mean.error == pytest.approx(of_seeds, rel=0.05)
    assert mean.df == pytest.approx(
        5, abs=0.1
    )  # no more than there are seeds, in however many rows
    both = Table("t", shifted).contrast({"r0": 1.0, "r1": 1.0})
    assert both.error == pytest.approx(2 * mean.error, rel=0.05)


def test_a_mean_of_seeds_without_a_common_part_borrows_from_all_rows() -> None:
    random = np.random.default_rng(3)
    values = {f"r{r}": dict(enumerate(random.normal(size=3))) for r in range(30)}
    table = Table("t", values)
    assert table.contrast({"r0": 1.0}).df > 10
    of_one = [float(table.moderated(row).value) for row in values]
    own = [np.var(list(by.values()), ddof=1) for by in values.values()]
    assert np.mean(of_one) == pytest.approx(np.mean(own), rel=0.05)
    assert np.std(of_one) < 0.5 * np.std(own)


def test_the_common_part_is_that_of_the_analysis_of_variance() -> None:
    """(MS of seeds - MS of residuals) / rows, and never below nothing."""
    values = drawn(6, 5)
    fit, long = fitted(values)
    by_seed = long.groupby("seed").y.mean()
    expected = by_seed.var(ddof=1) - fit.mse_resid / 6  # type: ignore[attr-defined]
    found = Table("t", values).fit
    assert found is not None
    assert found.common == pytest.approx(expected)
    opposed = {"a": {0: 1.0, 1: -1.0, 2: 0.0}, "b": {0: -1.0, 1: 1.0, 2: 0.0}}
    fit_of_opposed = Table("t", opposed).fit
    assert fit_of_opposed is not None
    assert fit_of_opposed.common == 0.0


def test_rows_without_a_seed_in_common_have_their_own_variances_only() -> None:
    values = {"a": {0: 1.0, 1: 2.0, 2: 4.0}, "b": {3: 5.0, 4: 5.5, 5: 7.0}}
    ours = Table("t", values).contrast({"a": 1.0, "b": -1.0})
    oracle = ttest_ind([1.0, 2.0, 4.0], [5.0, 5.5, 7.0], equal_var=False)
    assert ours.df == pytest.approx(oracle.df)
    assert ours.mean / ours.error == pytest.approx(oracle.statistic)


def test_many_tables_at_once_are_each_what_they_are_alone() -> None:
    many = [drawn(5, 4, seed=b) for b in range(6)]
    at_once = {r: {s: np.array([one[r][s] for one in many]) for s in range(4)} for r in many[0]}
    for weights in ({"r0": 1.0, "r1": -1.0}, {"r2": 1.0}, {"r0": 1.0, "r3": 1.0}):
        together = Table("t", at_once).contrast(weights)
        for b, one in enumerate(many):
            alone = Table("t", one).contrast(weights)
            assert together.mean[b] == pytest.approx(alone.mean)  # type: ignore[index]
            assert together.error[b] == pytest.approx(alone.error)  # type: ignore[index]
            df = np.broadcast_to(together.df, len(many))
            assert df[b] == pytest.approx(alone.df)


def test_pooled_variances_weigh_by_how_alike_the_rows_are_and_at_most_their_number() -> None:
    same = prior_of([Variance(1.0, 4.0)] * 10)
    assert (same.pooled.value, same.pooled.df, same.weight) == (1.0, 40.0, 10)
    unlike = prior_of([Variance(10.0**k, 4.0) for k in range(10)])
    assert 0 < float(unlike.weight) < 1
    assert prior_of([]).pooled == NOTHING_KNOWN


def test_the_weight_is_limmas_where_it_is_below_the_number_of_rows() -> None:
    """Variances drawn from a scaled inverse chi-square with 4 degrees of freedom."""
    random, df, weight = np.random.default_rng(0), 6.0, 4.0
    true = weight / random.chisquare(weight, 5_000)
    drawn_R = true * random.chisquare(df, 5_000) / df
    found = prior_of([Variance(float(value), df) for value in drawn_R])
    assert float(found.weight) == pytest.approx(weight, rel=0.1)


def test_moderated_variances_lie_between_and_know_no_more_than_the_table() -> None:
    prior = prior_of([Variance(1.0, 2.0), Variance(1.5, 2.0), Variance(0.8, 2.0)])
    moderated = moderate(Variance(4.0, 2.0), prior)
    assert float(prior.pooled.value) < float(moderated.value) < 4.0
    assert 2.0 < float(moderated.df) <= 6.0
    borrowed = moderate(NOTHING_KNOWN, prior)
    assert borrowed.value == prior.pooled.value


def test_sums_of_variances_have_satterthwaites_degrees_of_freedom() -> None:
    one, other = Variance(4.0, 3.0), Variance(1.0, 7.0)
    found = combined([(0.5, one), (0.25, other)])
    assert found.value == pytest.approx(2.25)
    assert found.df == pytest.approx(2.25**2 / (2.0**2 / 3 + 0.25**2 / 7))
    assert combined([(1.0, one), (1.0, NOTHING_KNOWN)]) == NOTHING_KNOWN
