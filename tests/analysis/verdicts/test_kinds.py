"""Every kind of claim has a meaning; what it tests is what is planned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.verdicts.claims import judge_ours
from analysis.verdicts.kinds import KINDS, comparisons_of, parts_of, rule_of
from analysis.verdicts.power import comparisons_tested, plan_power, power_of_equivalence
from analysis.verdicts.verdict import Status
from repro.harness.experiments.claims import SHAPES, AllOf, Best, Fails, Greater
from repro.harness.experiments.experiment import Experiment, experiment_ids, load
from tests.analysis.conftest import made_up

SEEDS = range(3)


def test_every_shape_of_a_claim_has_a_meaning() -> None:
    """`AllOf` is made of others."""
    assert set(KINDS) == set(SHAPES.values()) - {AllOf}
    assert all(meaning.rule for meaning in KINDS.values())


def test_a_claim_of_several_has_the_rules_and_comparisons_of_each() -> None:
    fails, best = Fails(rows=("T7.r2",)), Best(best="T7.a.knn", among=("T7.b.knn", "T7.c.knn"))
    both = AllOf(claims=(fails, best, Greater(better="T7.b.knn", worse="T7.c.knn")))
    assert [str(one) for one in comparisons_of(both)] == [
        "T7.a.knn - T7.b.knn",
        "T7.a.knn - T7.c.knn",
        "T7.b.knn - T7.c.knn",
    ]
    assert rule_of(both).startswith("all parts hold: k-NN at or below")
    assert rule_of(both).count("; ") == 2


def measured(names: list[str], scale: str) -> Evidence:
    """Three seeds of every metric of every row that is trained at this scale."""
    experiments = [load(name) for name in names]
    values = {}
    for number, experiment in enumerate(experiments):
        for line, row in enumerate(experiment.rows):
            seeds = () if row.why_not(scale) else SEEDS
            values[experiment.id, row.name] = {
                metric.key: {s: 50.0 + number + line / 7 + column / 3 + s**2 / 9 for s in seeds}
                for column, metric in enumerate(experiment.metrics)
            }
    return made_up(scale, experiments, values)


@pytest.mark.parametrize("scale", [PAPER, "laptop"])
def test_what_is_planned_is_what_holm_counts(scale: str) -> None:
    names = experiment_ids()
    evidence = measured(names, scale)
    seen: set[str] = set()
    for name in names:
        experiment = without_rows_of_records(evidence.experiment(name))
        tested = [
            (claim.id, part.name)
            for claim in experiment.claims
            for part in parts_of(claim.body, evidence)
            if part.status is Status.TESTED
        ]
        compared = comparisons_tested(experiment, evidence)
        assert [(claim, str(comparison)) for claim, comparison in compared] == tested, name
        planned = [(p.claim, p.what) for p in plan_power(experiment, evidence) if p.claim]
        assert planned == [(claim, one.question) for claim, one in compared], name
        counted = len({claim for claim, _ in planned})
        for verdict in judge_ours(experiment, evidence):
            if counted > 1 and "after Holm" in verdict.detail:
                assert f"after Holm over {counted} tested claims" in verdict.detail
        seen |= {type(part).__name__ for _, part in compared}
        seen |= {part.kind for claim in experiment.claims for part in claim.body.parts()}
    kinds = {"greater", "no_worse", "best", "order", "close", "contrast", "ratio", "smaller_gap"}
    assert kinds <= seen
    assert {"Difference", "WeightedSum"} <= seen
    assert ("Equivalence" in seen) == (scale == PAPER)


def without_rows_of_records(experiment: Experiment) -> Experiment:
    """Only the claims whose parts are all judged by cells: the made-up records hold no curves."""
    claims = [c for c in experiment.claims if all(comparisons_of(p) for p in c.body.parts())]
    return structs.replace(experiment, claims=tuple(claims))


def test_kinds_that_were_forgotten_once_are_planned(
    make: Callable[..., dict[str, Any]], evidence_of: Callable[..., Evidence]
) -> None:
    """C.T2.3 (a smaller gap), C.T2.5 (a contrast), C.T8.2 and C.T8.4 (ratios and bounds)."""
    planned = {
        claim
        for name in ("T2", "T8", "AE_mc")
        for scale in ("laptop", PAPER)
        for evidence in [evidence_of([], scale)]
        for claim, _ in comparisons_tested(evidence.experiment(name), evidence)
    }
    assert {"C.T2.3", "C.T8.2", "C.T8.4"} <= planned


def test_a_number_between_two_bounds_needs_both_tests_at_half_the_level() -> None:
    evidence = measured(["T14"], PAPER)
    experiment = evidence.experiment("T14")
    bounded = [p for p in plan_power(experiment, evidence) if " > 2, < 4" in p.what]
    assert bounded
    claims = len({claim for claim, _ in comparisons_tested(experiment, evidence)})
    for p in bounded:
        assert p.margin == 1.0
        printed = power_of_equivalence(1.0, p.sd, 3, 0.05 / claims / 2, p.gap)
        assert p.power == pytest.approx(printed)
