"""Verdicts on our records: each rule confirmed, contradicted and undecided by made-up runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from repro.harness.experiments.experiment import load

Record = dict[str, Any]
Make = Callable[..., Record]
EvidenceOf = Callable[..., Evidence]
LOG_K = math.log(64)
ONE_DIMENSION = {"entropy": 0.01, "kl": 0.001, "mean_entropy": 0.02}
UNIFORM = {"entropy": LOG_K - 1e-4, "kl": 1e-4, "mean_entropy": LOG_K - 1e-5}
CONSTANT = {"entropy": 2.0, "kl": 0.5, "mean_entropy": 2.001}
SHARP_BUT_DIFFERING = {"entropy": 0.01, "kl": 0.001, "mean_entropy": 2.0}
SEEDS = range(3)


def verdict(name: str, claim: str, evidence: Evidence) -> ClaimVerdict:
    return next(v for v in judge_ours(load(name), evidence) if v.id == claim)


def runs(make: Make, row: str, seeds: int = 3, **metrics: Any) -> list[Record]:
    return [make(row, seed, **metrics) for seed in range(seeds)]


def unhealthy(records: list[Record], state: str = "constant") -> list[Record]:
    return [r | {"sentinel": r["sentinel"] | {"state": state}} for r in records]


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
        ("AD_m.m0.999", "C.AD_m.1", UNIFORM, "expected collapse", True),  # of any form
        ("AD_m.m0.999", "C.AD_m.1", ONE_DIMENSION, "expected collapse", True),
        ("AD_m.m0.999", "C.AD_m.1", CONSTANT, "expected collapse", True),
        ("AD_m.m0.999", "C.AD_m.1", {}, "direction contradicted", False),
        ("F6R.prev_epoch", "C.F6.2", {}, "direction confirmed", True),
        ("F6R.prev_epoch", "C.F6.2", UNIFORM, "direction contradicted", False),
    ],
)
def test_a_claim_on_outputs_is_judged_by_the_outputs(
    row: str, claim: str, metrics: Any, word: str, holds: bool, make: Make, evidence_of: EvidenceOf
) -> None:
    found = verdict(row.partition(".")[0], claim, evidence_of(runs(make, row, **metrics)))
    assert (str(found.verdict), found.holds) == (word, holds), found.detail


@pytest.mark.parametrize("knn", [57.0, 60.0, 75.0])
def test_a_collapse_is_one_whatever_its_accuracy(
    knn: float, make: Make, evidence_of: EvidenceOf
) -> None:
    constant = evidence_of(runs(make, "F6R.prev_epoch", knn=knn, **CONSTANT))
    assert verdict("F6R", "C.F6.2", constant).holds is False
    differing = evidence_of(runs(make, "F6R.prev_epoch", knn=knn))
    assert verdict("F6R", "C.F6.2", differing).holds is True


@pytest.mark.parametrize(
    ("knn", "holds"), [(50.0, True), (61.0, True), (67.5, None), (74.0, False)]
)
def test_to_fail_is_to_gain_less_than_half_of_what_the_healthy_row_gains(
    knn: float, holds: bool | None, make: Make, evidence_of: EvidenceOf
) -> None:
    """The healthy row gains 15 points over its random network, at 60."""
    records = runs(make, "F6R.momentum", knn=75.0)
    for row in ("F6R.student_copy", "F6R.prev_iter"):
        records += [make(row, s, knn=knn + (s - 1) / 50) for s in SEEDS]
    found = verdict("F6R", "C.F6.1", evidence_of(records))
    assert found.holds is holds, found.detail
    assert "collapse" not in str(found.verdict)


def test_a_claim_to_fail_needs_the_healthy_row(make: Make, evidence_of: EvidenceOf) -> None:
    records = runs(make, "F6R.student_copy", knn=50.0) + runs(make, "F6R.prev_iter", knn=50.0)
    found = verdict("F6R", "C.F6.1", evidence_of(records))
    assert found.holds is None


def test_mixed_seeds_are_undecided_and_fewer_than_three_are_counted(
    make: Make, evidence_of: EvidenceOf
) -> None:
    good = [make("F7.centering", seed, **UNIFORM) for seed in (0, 1)]
    two = verdict("F7", "C.F7.2", evidence_of(good))
    assert (str(two.verdict), two.holds) == ("2 of 3 seeds", None)
    mixed = verdict("F7", "C.F7.2", evidence_of([*good, make("F7.centering", 2)]))
    assert (str(mixed.verdict), mixed.holds) == ("undecided at 3 seeds", None)
    assert "so in 2 of 3 seeds" in mixed.detail
    nothing = verdict("F7", "C.F7.2", evidence_of([]))
    assert (str(nothing.verdict), nothing.holds) == ("not run", None)


def test_seeds_that_diverged_are_counted_and_others_do_not_stand_for_them(
    make: Make, evidence_of: EvidenceOf
) -> None:
    """Counts need more seeds than means: 3 of 3 is no rare chance."""
    fine = [make("F6R.prev_epoch", seed) for seed in range(2, 32)]
    gone = unhealthy([make("F6R.prev_epoch", s, knn=None) for s in (0, 1)], "nan")
    few = verdict("F6R", "C.F6.2", evidence_of(gone + fine[:3]))
    assert (str(few.verdict), few.holds) == ("undecided at 5 seeds", None)
    assert "so in 3 of 5 seeds; " in few.detail
    assert "diverged in 0, 1]" in few.detail
    assert verdict("F6R", "C.F6.2", evidence_of(gone + fine)).holds is True
    many = [make("F6R.prev_epoch", seed) for seed in range(40)]
    assert verdict("F6R", "C.F6.2", evidence_of(unhealthy(many, "nan"))).holds is False


def test_a_comparison_with_a_row_of_which_seeds_diverged_is_at_most_undecided(
    make: Make, evidence_of: EvidenceOf
) -> None:
    better = [make("F6R.momentum", s, knn=80.0 + s / 50) for s in SEEDS]
    worse = [make("F6R.prev_epoch", s, knn=60.0 + s / 70) for s in SEEDS]
    assert verdict("F6R", "C.F6.4", evidence_of(better + worse)).holds is True
    gone = unhealthy([make("F6R.prev_epoch", 3, knn=None)], "nan")
    found = verdict("F6R", "C.F6.4", evidence_of(better + worse + gone))
    assert found.holds is None
    assert "F6R.prev_epoch diverged in seeds 3" in found.detail


@pytest.mark.parametrize(
    ("gaps", "holds"), [((3.0, 3.5, 2.5), True), ((-3.0, -3.5, -2.5), False), ((3, -2, 0.5), None)]
)
def test_what_all_rows_of_a_seed_have_in_common_is_taken_out(
    gaps: tuple[float, ...], holds: bool | None, make: Make, evidence_of: EvidenceOf
) -> None:
    seeds = (70.0, 60.0, 80.0)  # seeds differ far more than rows
    noise = {"T7.r3": (0.2, -0.3, 0.1), "T7.r4": (-0.2, 0.1, 0.3), "T7.r5": (0.3, 0.2, -0.4)}
    rows = {row: [s + n for s, n in zip(seeds, its, strict=True)] for row, its in noise.items()}
    rows |= {"T7.r6": [s - n for s, n in zip(seeds, noise["T7.r3"], strict=True)]}
    rows |= {"F6R.prev_epoch": list(seeds)}
    rows |= {"F6R.momentum": [s + gap for s, gap in zip(seeds, gaps, strict=True)]}
    records = [
        make(row, seed, knn=value) for row, its in rows.items() for seed, value in enumerate(its)
    ]
    found = verdict("F6R", "C.F6.4", evidence_of(records))
    assert found.holds is holds, found.detail


EPOCHS = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def with_curves(make: Make, row: str, knn: list[float], student: list[float]) -> list[Record]:
    """Three seeds with a common shift, and noise of a hundredth."""
    return [
        make(
            row,
            seed,
            curves={
                "eval": {
                    "epoch": EPOCHS,
                    "knn": [v + seed + (seed * i) % 3 / 100 for i, v in enumerate(knn)],
                    "student_knn": [v + seed for v in student],
                }
            },
        )
        for seed in SEEDS
    ]


def test_the_teacher_above_the_student_needs_every_evaluation(
    make: Make, evidence_of: EvidenceOf
) -> None:
    student = [60.0, 61.0, 62.0, 63.0, 64.0, 65.0]
    above = with_curves(make, "F6L.momentum", [v + 3 for v in student], student)
    assert verdict("F6L", "C.F6.5", evidence_of(above)).holds is True
    below = with_curves(make, "F6L.momentum", [60.0] * 6, student)
    assert verdict("F6L", "C.F6.5", evidence_of(below)).holds is False
    for r in above:
        for key, values in r["curves"]["eval"].items():
            r["curves"]["eval"][key] = [*values[:2], values[-1]]
    left = verdict("F6L", "C.F6.5", evidence_of(above))  # two evaluations of five
    assert (str(left.verdict), left.holds) == ("not run", None)


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
    rising = {"kl": [0.1 * 1.2**i for i in range(20)]}
    found = verdict("F7", "C.F7.5", evidence_of(runs(make, "F7.both", curves=rising)))
    # A claim on a small gap: another scale can at most not show it.
    assert (str(found.verdict), found.holds) == ("does not show at this scale", None)
    at_paper = [make("F7.both", s, scale=PAPER, curves=rising) for s in SEEDS]
    assert verdict("F7", "C.F7.5", evidence_of(at_paper, scale=PAPER)).holds is False


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


def test_what_differs_beside_what_a_claim_is_about_is_named(
    make: Make, evidence_of: EvidenceOf
) -> None:
    found = verdict("T7", "C.T7.4", evidence_of(runs(make, "T7.r3")))
    assert {one.key for one in found.confounds} == {"target.temp", "target.temp_start"}
