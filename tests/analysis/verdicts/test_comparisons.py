"""Contrasts, ratios and curves: on records made up to be true, false or undecided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from analysis.verdicts.comparisons import WeightedSum
from analysis.verdicts.kinds import comparisons_of
from repro.harness.experiments.claims import Ratio, SmallerGap
from repro.harness.experiments.experiment import load

Record = dict[str, Any]
Make = Callable[..., Record]
EvidenceOf = Callable[..., Evidence]


def verdict(experiment: str, claim: str, evidence: Evidence) -> ClaimVerdict:
    return next(v for v in judge_ours(load(experiment), evidence) if v.id == claim)


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


def test_a_contrast_is_the_weighted_sum_of_cells_seed_by_seed(
    make: Make, evidence_of: EvidenceOf
) -> None:
    records = seeds(make, "T7.r1", [75.0, 76.0, 77.0], "knn")
    records += seeds(make, "T7.r4", [72.0, 73.1, 73.9], "knn")
    terms = {"T7.r1.knn": 1, "T7.r4.knn": -1}
    part = WeightedSum(terms, 0.0, None).ours(evidence_of(records))
    assert "T7.r1.knn - T7.r4.knn = +3.00" in part.detail
    assert part.p_for < 0.01 < part.p_against
    reverse = WeightedSum(terms, None, 0.0).ours(evidence_of(records))
    assert (reverse.p_for, reverse.p_against) == (part.p_against, part.p_for)


def test_a_bound_in_points_is_not_judged_at_another_protocol(
    make: Make, evidence_of: EvidenceOf
) -> None:
    evidence = evidence_of(seeds(make, "T7.r1", [75.0, 76.0, 77.0], "knn"))
    part = WeightedSum({"T7.r1.knn": 1}, 70.0, None).ours(evidence)
    assert part.status == "not judged at this scale"
    at_paper = evidence_of(
        [make("T7.r1", s, scale=PAPER, knn=v) for s, v in enumerate([72.6, 72.8, 73.0])],
        scale=PAPER,
    )
    part = WeightedSum({"T7.r1.knn": 1}, 70.0, 74.0).ours(at_paper)
    assert part.status == "tested"
    assert part.p_for < 0.05


def test_a_ratio_is_tested_on_logarithms_against_one(make: Make, evidence_of: EvidenceOf) -> None:
    records = seeds(make, "T7.r4", [2.0, 2.2, 1.8], "im_s")
    records += seeds(make, "T7.r1", [1.0, 1.0, 1.0], "im_s")
    table = load("T1")
    assert table.metric("im_s").measured == "im_s"
    (ratio,) = comparisons_of(Ratio(over="A.a.x", under="A.b.x", above=1))
    assert str(ratio) == "A.a.x / A.b.x"
    assert ratio.value({"A.a.x": 6.0, "A.b.x": 3.0}) == pytest.approx(2.0)
    assert ratio.transfers
    assert not WeightedSum(ratio.weights(), 1.8, None, ratio=True).transfers


def test_a_smaller_gap_compares_every_row_with_every_other() -> None:
    rows, than = ("T2.a", "T2.b"), ("T2.c", "T2.d")
    found = comparisons_of(SmallerGap(high="linear", low="knn", rows=rows, than=than))
    assert len(found) == 4
    cells = {"T2.a.linear": 80.0, "T2.a.knn": 78.0, "T2.c.linear": 75.0, "T2.c.knn": 70.0}
    assert found[0].value(cells) == pytest.approx(2.0 - 5.0)
    assert found[0].bounds == (None, 0.0)


def test_a_claim_is_judged_on_what_was_measured_and_says_so(
    make: Make, evidence_of: EvidenceOf
) -> None:
    records = seeds(make, "T7.r1", [75.0, 76.0, 77.0], "knn")
    records += seeds(make, "T7.r5", [66.0, 67.1, 67.9], "knn")
    found = verdict("T7", "C.T7.6", evidence_of(records))
    assert (str(found.verdict), found.holds) == ("direction confirmed (in part)", True)
    assert "T7.r1.linear (not measured by these runs)" in found.detail
    whole = [r | {"metrics": r["metrics"] | {"linear": r["metrics"]["knn"]}} for r in records]
    assert str(verdict("T7", "C.T7.6", evidence_of(whole)).verdict) == "direction confirmed"
    assert (
        str(verdict("T14", "C.T14.1", evidence_of(records)).verdict) == "not run"
    )  # nothing remains


def test_a_method_without_distributions_works_by_the_spread_of_its_outputs(
    make: Make, evidence_of: EvidenceOf
) -> None:
    gone = {"entropy": None, "kl": None, "mean_entropy": None, "output_spread": 0.7}
    healthy = [make("T14.r7", s, **gone) for s in range(3)]
    assert verdict("T14", "C.T14.4b", evidence_of(healthy)).holds is True
    constant = [r | {"sentinel": r["sentinel"] | {"state": "constant"}} for r in healthy]
    assert verdict("T14", "C.T14.4b", evidence_of(constant)).holds is False
    low = [make("T14.r8", s, knn=55.0, **gone) for s in range(3)]
    assert str(verdict("T14", "C.T14.4", evidence_of(low)).verdict) == "expected collapse"


def curve(values: list[float]) -> Record:
    return {"eval": {"epoch": [0.0, 2.0, 4.0, 6.0], "knn": values, "student_knn": values}}


def test_curves_that_cross_and_decline_are_seen(make: Make, evidence_of: EvidenceOf) -> None:
    def records(with_mc: list[float]) -> list[Record]:
        flat = [make("AE_fig_byol.without_mc", s, curves=curve([50, 60, 62, 66])) for s in range(3)]
        return flat + [make("AE_fig_byol.with_mc", s, curves=curve(with_mc)) for s in range(3)]

    assert verdict("AE_fig_byol", "C.AE_mc.5", evidence_of(records([50, 64, 65, 60]))).holds is True
    assert (
        verdict("AE_fig_byol", "C.AE_mc.5", evidence_of(records([50, 64, 68, 70]))).holds is False
    )
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
