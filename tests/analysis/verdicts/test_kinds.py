"""Every kind of claim has a meaning, and what it tests is what is counted and planned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.verdicts.family import ALPHA, family_of
from analysis.verdicts.kinds import KINDS, comparisons_of, expected_of, rule_of, statements_of
from analysis.verdicts.power import plan_claim
from repro.harness.experiments.claims import SHAPES, AllOf, Best, Fails, Greater
from repro.harness.experiments.experiment import experiment_ids

Record = dict[str, Any]
SEEDS = range(3)


@pytest.fixture(scope="module")
def nothing() -> dict[str, Evidence]:
    return {scale: Evidence(scale, {}) for scale in ("laptop", PAPER)}


def test_every_shape_of_a_claim_has_a_meaning() -> None:
    """`AllOf` is made of others."""
    assert set(KINDS) == set(SHAPES.values()) - {AllOf}
    assert all(kind.rule for kind in KINDS.values())


def test_a_claim_of_several_has_the_rules_and_comparisons_of_each() -> None:
    fails = Fails(rows=("T7.r2",), healthy="T7.r1")
    best = Best(best="T7.a.knn", among=("T7.b.knn", "T7.c.knn"))
    both = AllOf(claims=(fails, best, Greater(better="T7.b.knn", worse="T7.c.knn")))
    assert [str(one) for one in comparisons_of(both)] == [
        "T7.a.knn - T7.b.knn",
        "T7.a.knn - T7.c.knn",
        "T7.b.knn - T7.c.knn",
    ]
    assert rule_of(both).startswith("all parts hold: k-NN gains")
    assert rule_of(both).count("; ") == 2


@pytest.mark.parametrize("scale", ["laptop", PAPER])
def test_the_family_is_all_that_a_scale_can_test_before_anything_is_run(
    scale: str, nothing: dict[str, Evidence]
) -> None:
    evidence = nothing[scale]
    families = {name: family_of(evidence.experiment(name), evidence) for name in experiment_ids()}
    sizes = {family.size for family in families.values()}
    assert len(sizes) == 1  # one family, whichever experiment asks
    family = families["T7"]
    assert family.level == ALPHA / family.size
    kinds = {
        part.kind
        for name in experiment_ids()
        for claim in evidence.experiment(name).claims
        if any(not s.not_judged and s.chance for s in family.statements[claim.id])
        for part in claim.body.parts()
    }
    all_kinds = set(SHAPES) - {"all_of", "tokens", "decomposition"}
    assert kinds >= all_kinds - ({"close"} if scale != PAPER else set())


def test_what_has_been_run_changes_no_size(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence], nothing: dict[str, Evidence]
) -> None:
    records = [make(row, seed) for row in ("T7.r1", "T7.r4", "F7.both") for seed in SEEDS]
    evidence = evidence_of(records)
    family = family_of(evidence.experiment("T7"), evidence)
    before = family_of(nothing["laptop"].experiment("T7"), nothing["laptop"])
    assert family.size == before.size
    assert family.decided  # F7.both is healthy


def test_every_claim_on_cells_is_planned_before_anything_is_run(
    nothing: dict[str, Evidence],
) -> None:
    """By the paper's numbers: C.T2.3 (a smaller gap), C.T8.2 (a ratio), C.T8.4 (a contrast)."""
    evidence = nothing[PAPER]
    for name, claim in (("T7", "C.T7.5"), ("T8", "C.T8.2"), ("T8", "C.T8.4"), ("T14", "C.T14.6")):
        experiment = evidence.experiment(name)
        (body,) = (one for one in experiment.claims if one.id == claim)
        planned = plan_claim(body, experiment, evidence)
        assert not planned.why_not
        assert planned.with_three is not None


def test_what_is_expected_of_a_claim_is_what_is_stated_of_it_once_it_is_run(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence], nothing: dict[str, Evidence]
) -> None:
    evidence = evidence_of([make(row, s, linear=60.0) for row in ("T7.r1", "T7.r4") for s in SEEDS])
    experiment = evidence.experiment("T7")
    (claim,) = (one for one in experiment.claims if one.id == "C.T7.5")
    run = statements_of(claim.body, family_of(experiment, evidence).measured)
    empty = nothing["laptop"]
    before = expected_of(claim.body, family_of(empty.experiment("T7"), empty).measured)
    assert [one.statement.key for one in before] == [one.key for one in run]
    assert all(one.means for one in before)
    assert all(one.expression is not None for one in run)
