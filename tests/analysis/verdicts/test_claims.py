"""Verdicts on our records: each rule confirmed, contradicted and undecided by made-up runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from repro.harness.experiments.experiment import load

Record = dict[str, Any]
Make = Callable[..., Record]
EvidenceOf = Callable[..., Evidence]
LOG_K = math.log(64)
ONE_DIMENSION = {"entropy": 0.01, "kl": 0.001, "mean_entropy": 0.02}
UNIFORM = {"entropy": LOG_K - 1e-4, "kl": 1e-4, "mean_entropy": LOG_K - 1e-5}
SHARP_BUT_DIFFERING = {"entropy": 0.01, "kl": 0.001, "mean_entropy": 2.0}


def verdict(name: str, claim: str, evidence: Evidence) -> ClaimVerdict:
    return next(v for v in judge_ours(load(name), evidence) if v.id == claim)


def runs(make: Make, row: str, seeds: int = 3, **metrics: Any) -> list[Record]:
    return [make(row, seed, **metrics) for seed in range(seeds)]


@pytest.mark.parametrize(
    ("row", "claim", "metrics", "word", "holds"),
    [
        ("F7.sharpening", "C.F7.1", ONE_DIMENSION, "expected collapse", True),
        ("F7.sharpening", "C.F7.1", UNIFORM, "direction contradicted", False),
        ("F7.sharpening", "C.F7.1", SHARP_BUT_DIFFERING, "direction contradicted", False),
        ("F7.sharpening", "C.F7.1", {}, "direction contradicted", False),
        ("F7.centering", "C.F7.2", UNIFORM, "expected collapse", True),
        ("F7.centering", "C.F7.2", ONE_DIMENSION, "direction contradicted", False),
        ("F7.both", "C.F7.3", {}, "direction confirmed", True),
        ("F7.both", "C.F7.3", UNIFORM, "direction contradicted", False),
        ("F7.neither", "C.F7.6", ONE_DIMENSION, "expected collapse", True),
        ("T7.r2", "C.T7.1", {"knn": 57.0}, "expected collapse", True),
        ("T7.r2", "C.T7.1", {"knn": 60.0}, "expected collapse", True),  # at random initialisation
        ("T7.r2", "C.T7.1", {"knn": 60.1}, "direction contradicted", False),
        ("F6R.prev_epoch", "C.F6.2", {"knn": 65.0}, "direction confirmed", True),
        ("F6R.prev_epoch", "C.F6.2", {"knn": 59.0}, "direction contradicted", False),
        ("F6R.prev_epoch", "C.F6.2", UNIFORM, "direction contradicted", False),
    ],
)
def test_a_predicate_needs_to_hold_in_every_seed(
    row: str, claim: str, metrics: Any, word: str, holds: bool, make: Make, evidence_of: EvidenceOf
) -> None:
    found = verdict(row.partition(".")[0], claim, evidence_of(runs(make, row, **metrics)))
    assert (str(found.verdict), found.holds) == (word, holds), found.detail


def test_mixed_seeds_are_undecided_and_fewer_than_three_are_counted(
    make: Make, evidence_of: EvidenceOf
) -> None:
    good = [make("F7.centering", seed, **UNIFORM) for seed in (0, 1)]
    two = verdict("F7", "C.F7.2", evidence_of(good))
    assert (str(two.verdict), two.holds) == ("2 of 3 seeds", None)
    mixed = verdict("F7", "C.F7.2", evidence_of([*good, make("F7.centering", 2)]))
    assert (str(mixed.verdict), mixed.holds) == ("undecided at 3 seeds", None)
    nothing = verdict("F7", "C.F7.2", evidence_of([]))
    assert (str(nothing.verdict), nothing.holds) == ("not run", None)


def test_a_claim_on_two_rows_needs_both(make: Make, evidence_of: EvidenceOf) -> None:
    copies = runs(make, "F6R.student_copy", knn=50.0)
    only_one = verdict("F6R", "C.F6.1", evidence_of(copies))
    assert only_one.holds is None
    both = verdict("F6R", "C.F6.1", evidence_of(copies + runs(make, "F6R.prev_iter", knn=50.0)))
    assert both.holds is True
    other = verdict("F6R", "C.F6.1", evidence_of(copies + runs(make, "F6R.prev_iter", knn=70.0)))
    assert other.holds is False


@pytest.mark.parametrize(
    ("gaps", "holds"), [((3.0, 3.5, 2.5), True), ((-3.0, -3.5, -2.5), False), ((3, -2, 0.5), None)]
)
def test_a_comparison_is_judged_by_the_paired_interval(
    gaps: tuple[float, ...], holds: bool | None, make: Make, evidence_of: EvidenceOf
) -> None:
    base = (70.0, 60.0, 80.0)  # seeds differ far more than rows: only pairing can tell
    records = [make("F6R.prev_epoch", seed, knn=value) for seed, value in enumerate(base)]
    records += [
        make("F6R.momentum", seed, knn=value + gap)
        for seed, (value, gap) in enumerate(zip(base, gaps, strict=True))
    ]
    found = verdict("F6R", "C.F6.4", evidence_of(records))
    assert found.holds is holds, found


def test_every_evaluation_counts_for_the_teacher_above_the_student(
    make: Make, evidence_of: EvidenceOf
) -> None:
    assert verdict("F6L", "C.F6.5", evidence_of(runs(make, "F6L.momentum"))).holds is True
    points = {"epoch": [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]}
    below = points | {"knn": [60.0] * 6, "student_knn": [60.0, 61.0, 62.0, 63.0, 64.0, 65.0]}
    found = verdict(
        "F6L", "C.F6.5", evidence_of(runs(make, "F6L.momentum", curves={"eval": below}))
    )
    assert found.holds is False


def test_absolute_differences_are_not_judged_at_another_scale(
    make: Make, evidence_of: EvidenceOf
) -> None:
    found = verdict("F6R", "C.F6.3", evidence_of(runs(make, "F6R.prev_epoch")))
    assert found.holds is None


def test_the_decomposition_is_checked_against_its_tolerance(
    make: Make, evidence_of: EvidenceOf
) -> None:
    def records(error: float) -> list[Record]:
        rows = ("F7.both", "F7.centering", "F7.sharpening")
        return [r for row in rows for r in runs(make, row, decomposition_error=error)]

    assert verdict("F7", "C.F7.4", evidence_of(records(1e-6))).holds is True
    assert verdict("F7", "C.F7.4", evidence_of(records(1e-3))).holds is False


def test_the_shape_of_the_healthy_run_needs_a_peak_inside(
    make: Make, evidence_of: EvidenceOf
) -> None:
    assert verdict("F7", "C.F7.5", evidence_of(runs(make, "F7.both"))).holds is True
    rising = {"kl": [0.1 + 0.01 * i for i in range(20)]}
    found = verdict("F7", "C.F7.5", evidence_of(runs(make, "F7.both", curves=rising)))
    assert found.holds is False


def test_smoke_runs_are_never_evidence(make: Make, evidence_of: EvidenceOf) -> None:
    records = [make("F7.centering", seed, scale="smoke", **UNIFORM) for seed in range(3)]
    found = verdict("F7", "C.F7.2", evidence_of(records, scale="smoke"))
    assert (str(found.verdict), found.holds) == ("not evidence (smoke)", None)


def test_rows_that_are_reported_only_leave_their_claims_not_run(
    make: Make, evidence_of: EvidenceOf
) -> None:
    found = verdict("T2", "C.T2.1", evidence_of(runs(make, "T2.rn50_dino")))
    assert (str(found.verdict), found.holds) == ("not run", None)
    assert "reported only" in found.detail
