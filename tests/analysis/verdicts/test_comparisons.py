"""Contrasts, ratios and curves: on records made up to be true, false or undecided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import Measured
from analysis.evidence.rows import PAPER
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from analysis.verdicts.comparisons import Comparison, Difference, Nearer, WeightedSum
from analysis.verdicts.kinds import comparisons_of
from analysis.verdicts.statement import Statement
from repro.harness.experiments.claims import Ratio, SmallerGap
from repro.harness.experiments.experiment import load

Record = dict[str, Any]
Make = Callable[..., Record]
EvidenceOf = Callable[..., Evidence]


def verdict(experiment: str, claim: str, evidence: Evidence) -> ClaimVerdict:
    return next(v for v in judge_ours(load(experiment), evidence) if v.id == claim)


def statement(comparison: Comparison, evidence: Evidence) -> Statement:
    names = {address.partition(".")[0] for address in comparison.weights()}
    return comparison.statement(Measured(evidence, [evidence.experiment(n) for n in names]))


def seeds(make: Make, address: str, values: list[float], metric: str, **more: Any) -> list[Record]:
    return [make(address, s, **{metric: value}, **more) for s, value in enumerate(values)]


def test_a_cell_reads_the_metric_and_the_variant_that_its_column_names(
    make: Make, evidence_of: EvidenceOf
) -> None:
    table = load("T8")
    evidence = evidence_of(
        [
            make("T8.l2", 0, variant="100ep", time_h=1.5),
            make("T8.l2", 0, variant="300ep", time_h=4.5),
        ]
    )
    values = {m.key: evidence.cell(f"T8.l2.{m.key}").values.get(0) for m in table.metrics}
    assert (values["time_h_100ep"], values["time_h_300ep"]) == (1.5, 4.5)
    assert values["top1_100ep"] is None  # linear was not measured


def test_a_contrast_is_the_weighted_sum_of_cells(make: Make, evidence_of: EvidenceOf) -> None:
    records = seeds(make, "T7.r1", [75.0, 76.0, 77.0], "knn")
    records += seeds(make, "T7.r4", [72.0, 73.1, 73.9], "knn")
    terms = {"T7.r1.knn": 1, "T7.r4.knn": -1}
    part = statement(WeightedSum(terms, 0.0, None), evidence_of(records))
    assert part.expression is not None
    assert "T7.r1.knn - T7.r4.knn = +3.00" in part.words(0.05)
    assert part.expression.p.confirming < 0.01 < part.expression.p.contradicting
    reverse = statement(WeightedSum(terms, None, 0.0), evidence_of(records))
    assert reverse.expression is not None
    assert reverse.expression.p == part.expression.p[::-1]
    # Asked the other way round it is the same hypothesis, and counts once.
    assert reverse.key == part.key
    turned = Difference("T7.r4.knn", "T7.r1.knn")
    assert statement(turned, evidence_of(records)).key == part.key
    assert (
        statement(Difference("T7.r1.knn", "T7.r4.knn", 1.0), evidence_of(records)).key != part.key
    )


def test_a_comparison_is_the_same_in_whatever_table_it_stands(
    make: Make, evidence_of: EvidenceOf
) -> None:
    """C.T7.9, C.T13.1 and C.T2.2 are the same six differences."""
    records = [
        make(row, seed, knn=level + (seed * k) % 3 / 2, linear=level + (seed + k) % 3)
        for k, (row, level) in enumerate(
            {"T7.r1": 70.0, "T7.r7": 66.0, "T7.r8": 60.0, "T7.r9": 72.0}.items()
        )
        for seed in range(3)
    ]
    evidence = evidence_of(records)
    three = [
        verdict("T7", "C.T7.9", evidence),
        verdict("T13", "C.T13.1", evidence),
        verdict("T2", "C.T2.2", evidence),
    ]
    keys = [{s.key for s in one.statements} for one in three]
    assert len(keys[0]) == 6
    assert keys[0] == keys[1] == keys[2]
    assert len({str(one.verdict) for one in three}) == 1


def test_a_bound_in_points_is_not_judged_at_another_protocol(
    make: Make, evidence_of: EvidenceOf
) -> None:
    evidence = evidence_of(seeds(make, "T7.r1", [75.0, 76.0, 77.0], "knn"))
    part = statement(WeightedSum({"T7.r1.knn": 1}, 70.0, None), evidence)
    assert part.not_judged
    at_paper = evidence_of(
        [make("T7.r1", s, scale=PAPER, knn=v) for s, v in enumerate([72.6, 72.8, 73.0])],
        scale=PAPER,
    )
    part = statement(WeightedSum({"T7.r1.knn": 1}, 70.0, 74.0), at_paper)
    assert part.expression is not None
    assert part.expression.p.confirming < 0.05


def test_a_ratio_is_tested_on_logarithms_against_one(make: Make, evidence_of: EvidenceOf) -> None:
    (ratio,) = comparisons_of(Ratio(over="A.a.x", under="A.b.x", above=1))
    assert str(ratio) == "A.a.x / A.b.x"
    assert ratio.value({"A.a.x": 6.0, "A.b.x": 3.0}) == pytest.approx(2.0)
    assert ratio.transfers
    assert not WeightedSum(ratio.weights(), 1.8, None, factor=True).transfers
    records = [make("T8.l0", s, variant="300ep", time_h=4.0 * (1 + s / 50)) for s in range(3)] + [
        make("T8.l10", s, variant="100ep", time_h=2.0 * (1 - s / 40)) for s in range(3)
    ]
    cells = {"T8.l0.time_h_300ep": 1, "T8.l10.time_h_100ep": -1}
    part = statement(WeightedSum(cells, 1.0, None, factor=True), evidence_of(records))
    assert part.expression is not None
    assert "= x 2.09 (95 % interval x " in part.words(0.05)
    assert part.expression.p.confirming < 0.01
    difference = Difference("T8.l0.time_h_300ep", "T8.l10.time_h_100ep")
    assert " = x 2.09 " in statement(difference, evidence_of(records)).words(0.05)


def test_a_smaller_gap_compares_every_row_with_every_other() -> None:
    rows, than = ("T2.a", "T2.b"), ("T2.c", "T2.d")
    found = comparisons_of(SmallerGap(high="linear", low="knn", rows=rows, than=than))
    assert len(found) == 4
    cells = {"T2.a.linear": 80.0, "T2.a.knn": 78.0, "T2.c.linear": 75.0, "T2.c.knn": 70.0}
    assert found[0].value(cells) == pytest.approx(2.0 - 5.0)


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_gaps_are_compared_by_their_size(
    signs: tuple[int, int], make: Make, evidence_of: EvidenceOf
) -> None:
    def records(gap: float, other: float) -> list[Record]:
        return [
            make(row, s, knn=60.0 + s, linear=60.0 + s + by + (s * k) % 3 / 20)
            for k, (row, by) in enumerate({"T7.r1": gap, "T7.r8": other}.items())
            for s in range(3)
        ]

    near, far = signs[0] * 1.0, signs[1] * 8.0
    nearer = Nearer("T7.r1.linear", "T7.r1.knn", "T7.r8.linear", "T7.r8.knn")
    for pair, holds in (((near, far), True), ((far, near), False)):
        part = statement(nearer, evidence_of(records(*pair)))
        assert part.expression is not None
        assert part.expression.leans is holds
        p = part.expression.p
        assert (p.confirming < 0.01, p.contradicting < 0.01) == (holds, not holds)


def test_nothing_is_confirmed_by_what_is_missing(make: Make, evidence_of: EvidenceOf) -> None:
    records = seeds(make, "T7.r1", [85.0, 86.0, 87.0], "knn")
    records += seeds(make, "T7.r5", [66.0, 67.1, 67.9], "knn")
    found = verdict("T7", "C.T7.6", evidence_of(records))
    assert (str(found.verdict), found.holds) == ("undecided at 3 seeds (in part)", None)
    assert "T7.r1.linear (not measured by these runs)" in found.detail
    whole = [r | {"metrics": r["metrics"] | {"linear": r["metrics"]["knn"]}} for r in records]
    assert str(verdict("T7", "C.T7.6", evidence_of(whole)).verdict) == "direction confirmed"
    # The size of the family is what could be tested, not what is.
    assert found.level == verdict("T7", "C.T7.1", evidence_of(records)).level
    assert str(verdict("T14", "C.T14.1", evidence_of(records)).verdict) == "not run"


def test_a_part_that_is_contradicted_contradicts_whatever_is_missing(
    make: Make, evidence_of: EvidenceOf
) -> None:
    records = seeds(make, "T7.r1", [65.0, 66.0, 67.0], "knn")
    records += seeds(make, "T7.r5", [86.0, 87.1, 87.9], "knn")
    found = verdict("T7", "C.T7.6", evidence_of(records))
    assert (str(found.verdict), found.holds) == ("direction contradicted", False)


def test_a_method_without_distributions_collapses_by_the_spread_of_its_outputs(
    make: Make, evidence_of: EvidenceOf
) -> None:
    def runs(row: str, spread: float, **more: Any) -> Evidence:
        gone = {"entropy": None, "kl": None, "mean_entropy": None, "output_spread": spread}
        return evidence_of([make(row, s, **gone, **more) for s in range(3)])

    assert verdict("T14", "C.T14.4b", runs("T14.r7", 0.7)).holds is True
    assert verdict("T14", "C.T14.4b", runs("T14.r7", 0.001)).holds is False
    low = verdict("T14", "C.T14.4", runs("T14.r8", 0.001, knn=75.0))
    assert str(low.verdict) == "expected collapse"
    assert verdict("T14", "C.T14.4", runs("T14.r8", 0.7, knn=20.0)).holds is False


def curve(values: list[float], seed: int) -> Record:
    own = [value + (seed * i) % 3 / 50 for i, value in enumerate(values)]
    epochs = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    return {"eval": {"epoch": epochs, "knn": own, "student_knn": own}}


def test_curves_that_cross_and_decline_are_seen(make: Make, evidence_of: EvidenceOf) -> None:
    def records(with_mc: list[float]) -> Evidence:
        without = [50, 60, 62, 64, 65, 66]
        return evidence_of(
            [
                make(f"AE_fig_byol.{row}", s, curves=curve(values, s))
                for row, values in (("without_mc", without), ("with_mc", with_mc))
                for s in range(3)
            ]
        )

    falling, rising = [50, 64, 66, 65, 63, 60], [50, 64, 66, 68, 70, 72]
    assert verdict("AE_fig_byol", "C.AE_mc.5", records(falling)).holds is True
    found = verdict("AE_fig_byol", "C.AE_mc.5", records(rising))
    assert str(found.verdict) == "does not show at this scale"
    assert str(verdict("AE_fig_byol", "C.AE_mc.5", evidence_of([])).verdict) == "not run"


def test_tokens_are_counted_from_resolution_and_patch(make: Make, evidence_of: EvidenceOf) -> None:
    def records(extra: int) -> list[Record]:
        tokens = {"vits16": 17, "vits8": 65, "vitb16": 17, "vitb8": 65}
        return [make(f"T1.{r}", s, tokens=n + extra) for r, n in tokens.items() for s in range(3)]

    assert verdict("T1", "C.T1.1", evidence_of(records(0))).holds is True
    assert verdict("T1", "C.T1.1", evidence_of(records(1))).holds is False
    older = [make(f"T1.{row}", seed) for row in ("vits16", "vits8") for seed in range(3)]
    assert "tokens" not in older[0]["metrics"]
    assert verdict("T1", "C.T1.1", evidence_of(older)).holds is None
    assert "not measured" in verdict("T1", "C.T1.1", evidence_of(older)).detail
