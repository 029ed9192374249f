"""Sets of records that would mislead a naive rule: none confirms or contradicts what it should not.

Most are made up from the configs of the real rows, and judged in the family of all claims; those of
curves and ties are drawn (`simulation.py`), since only shares of repetitions can show that a rule
holds there.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from analysis.evidence.evidence import Evidence, published_evidence
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from analysis.verdicts.family import ALPHA, family_of
from analysis.verdicts.statement import Identity
from repro.harness.experiments.experiment import Experiment, experiment_ids, load
from tests.analysis.verdicts.simulated.calibration import allowed, stages
from tests.analysis.verdicts.simulated.noises import NOISES
from tests.analysis.verdicts.simulated.scenes import POINTS, Scene
from tests.analysis.verdicts.simulated.simulation import Stage
from tests.analysis.verdicts.simulated.worlds import draw

Record = dict[str, Any]
Make = Callable[..., Record]
EvidenceOf = Callable[..., Evidence]
Published = Callable[..., Path]
ONE_DIMENSION = {"entropy": 0.01, "kl": 0.001, "mean_entropy": 0.02}
CONSTANT = {"entropy": 2.0, "kl": 0.5, "mean_entropy": 2.001}
IMAGE = 100 / 1024  # one of the test images, in points
DECIDED = ("direction confirmed", "direction contradicted", "expected collapse")
AT_RANDOM = 60.0  # k-NN of the made-up networks before training


@cache
def experiment_of(claim: str) -> Experiment:
    experiments = map(load, experiment_ids())
    return next(one for one in experiments if claim in {c.id for c in one.claims})


def verdict(claim: str, evidence: Evidence) -> ClaimVerdict:
    return next(v for v in judge_ours(experiment_of(claim), evidence) if v.id == claim)


def word(claim: str, evidence: Evidence) -> str:
    return str(verdict(claim, evidence).verdict)


def runs(make: Make, row: str, knn: list[float], **metrics: Any) -> list[Record]:
    """A run a value of k-NN, counted on 1,024 test images."""
    made = [make(row, seed, knn=value, **metrics) for seed, value in enumerate(knn)]
    return [one | {"counts": one["counts"] | {"test_images": 1024}} for one in made]


def in_state(record: Record, state: str) -> Record:
    return record | {"sentinel": record["sentinel"] | {"state": state}}


# Frequencies: more seeds help.


def test_one_seed_of_29_that_did_not_collapse_leaves_the_collapse_decided(
    make: Make, published: Published
) -> None:
    """Each has curves of its own, so that none is refused as a copy."""
    records = [make("F7.sharpening", 0)]
    for seed in range(1, 29):
        outputs = {key: value * (1 + seed / 1000) for key, value in ONE_DIMENSION.items()}
        records.append(in_state(make("F7.sharpening", seed, **outputs), "one_dimension"))
    published(records)
    evidence = published_evidence("laptop")
    assert len(evidence.records) == 29
    assert not evidence.refused
    assert word("C.F7.1", evidence) == "expected collapse"


@pytest.mark.parametrize("healthy", [1, 2])
def test_few_seeds_that_say_both_decide_nothing(
    healthy: int, make: Make, evidence_of: EvidenceOf
) -> None:
    records = [
        make("F7.sharpening", seed, **({} if seed < healthy else ONE_DIMENSION))
        for seed in range(3)
    ]
    assert word("C.F7.1", evidence_of(records)) == "undecided at 3 seeds"


# Collapse is a state, not an accuracy.


@pytest.mark.parametrize("claim", ["C.T14.4", "C.AD_tau.1", "C.AD_m.1", "C.AD_tau.2", "C.T7.2"])
def test_what_is_said_of_a_collapse_does_not_hang_on_the_accuracy(
    claim: str, make: Make, evidence_of: EvidenceOf
) -> None:
    """Three seeds alike, above the k-NN of random networks, as far below it, and far above."""
    (rows,) = {c.body.row_addresses() for c in experiment_of(claim).claims if c.id == claim}
    words, numbers = set(), set()
    for gain in (5.0, -5.0, 15.0):
        records = []
        for row in rows:
            outputs = {"kl": 0.046, "output_spread": 0.045, "cross_entropy": 4.0}
            made = runs(make, row, [AT_RANDOM + gain + s / 10 for s in range(3)], **outputs)
            records += made
        found = verdict(claim, evidence_of(records))
        words.add(str(found.verdict))
        numbers.add(found.detail)
    assert len(words) == len(numbers) == 1


def test_a_few_test_images_above_or_below_random_are_neither_work_nor_collapse(
    make: Make, evidence_of: EvidenceOf
) -> None:
    healthy = runs(make, "T7.r1", [71.0, 71.5, 70.6])
    above = runs(make, "T7.r5", [AT_RANDOM + n * IMAGE for n in (1, 1, 2)])
    below = runs(make, "T7.r2", [AT_RANDOM - n * IMAGE for n in (0, 0, 1)])
    evidence = evidence_of([*healthy, *above, *below])
    assert word("C.T7.6b", evidence) not in ("direction confirmed", "expected collapse")
    assert word("C.T7.1", evidence) not in ("direction confirmed", "expected collapse")


# No confirmation by absence.


def test_a_part_that_is_missing_leaves_a_claim_open_however_clear_the_rest(
    make: Make, evidence_of: EvidenceOf
) -> None:
    with_linear = runs(make, "T7.r1", [80.0, 80.5, 79.8], linear=85.0)
    without = runs(make, "T7.r5", [50.0, 50.5, 49.7])
    found = verdict("C.T7.6", evidence_of(with_linear + without))
    assert (str(found.verdict), found.holds) == ("undecided at 3 seeds (in part)", None)


def test_without_linear_evaluations_the_family_keeps_its_size_and_nothing_becomes_decided() -> None:
    """Of the published records."""
    evidence = published_evidence("laptop")
    without = Evidence(
        "laptop",
        {
            i: msgspec.structs.replace(
                run, metrics={k: v for k, v in run.metrics.items() if not k.startswith("linear")}
            )
            for i, run in evidence.records.items()
        },
    ).knowing(evidence)
    sizes = {family_of(load("T7"), one).size for one in (evidence, without)}
    assert len(sizes) == 1
    for name in experiment_ids():
        experiment = load(name)
        before, after = (judge_ours(experiment, one) for one in (evidence, without))
        for one, other in zip(before, after, strict=True):
            if str(one.verdict) != str(other.verdict):
                measured = [evidence.metric(a).measured for s in [one] for a in _cells(s)]
                assert any(source.startswith("linear") for source in measured), one.id
                assert str(other.verdict) not in DECIDED, one.id


def _cells(found: ClaimVerdict) -> tuple[str, ...]:
    (claim,) = (c for c in load(found.experiment).claims if c.id == found.id)
    return claim.body.cell_addresses()


def test_one_surviving_evaluation_is_no_curve(make: Make, evidence_of: EvidenceOf) -> None:
    """Nor is one run without its middle."""
    whole = [make("F6L.momentum", seed) for seed in range(3)]
    assert word("C.F6.5", evidence_of(whole)) == "direction confirmed"
    for keep in (slice(-1, None), slice(0, 3)):
        cut = copy.deepcopy(whole)
        for record in cut[:1] if keep.start == 0 else cut:
            its = record["curves"]["eval"]
            record["curves"]["eval"] = {key: values[keep] for key, values in its.items()}
        assert word("C.F6.5", evidence_of(cut)) not in DECIDED


# Seeds that are none, and runs that are no evidence.


def test_a_seed_that_is_copied_is_no_evidence(published: Published, make: Make) -> None:
    records = []
    for row, knn in (("T7.r1", 80.0), ("T7.r5", 60.0)):
        first = make(row, 0, knn=knn, linear=knn)
        for seed in range(3):
            other = make(row, seed, knn=knn, linear=knn)
            other |= {"metrics": first["metrics"], "curves": first["curves"]}
            records.append(other)
    published(records)
    evidence = published_evidence("laptop")
    assert not evidence.records
    assert len(evidence.refused) == 6
    assert word("C.T7.6", evidence) == "not run"


@pytest.mark.parametrize(("images", "decided"), [(2, False), (250, True)])
def test_values_without_any_spread_vary_as_test_images_do(
    images: int, decided: bool, make: Make, evidence_of: EvidenceOf
) -> None:
    """Runs that agree to the last digit, in curves that do not."""
    low = 60.0
    records = [
        one
        for row, knn in (("F6R.momentum", low + images * IMAGE), ("F6R.prev_epoch", low))
        for one in runs(make, row, [knn] * 3)
    ]
    found = word("C.F6.4", evidence_of(records))
    assert (found in DECIDED) is decided


def test_seeds_of_uncommitted_code_bear_no_claim(make: Make, evidence_of: EvidenceOf) -> None:
    records = [
        one | {"env": one["env"] | {"dirty": one["seed"] == 2}}
        for one in runs(make, "F7.both", [75.0, 75.5, 74.6])
    ]
    assert word("C.F7.3", evidence_of(records)) == "2 of 3 seeds"
    assert (
        word("C.F7.3", evidence_of([r | {"env": {"dirty": False}} for r in records])) == "not run"
    )


def test_one_diverged_seed_of_five_is_not_forgotten(make: Make, evidence_of: EvidenceOf) -> None:
    """The four that are left are the fortunate ones: neither their gap nor their health decides."""
    good = runs(make, "T7.r1", [80.0, 80.4, 79.7, 80.1, 80.2], linear=85.0)
    bad = runs(make, "T7.r5", [65.0, 65.4, 64.7, 65.1, 65.2], linear=60.0)
    assert word("C.T7.6", evidence_of(good + bad)) == "direction confirmed"
    lost = copy.deepcopy(good)
    lost[4] = in_state(lost[4], "nan")
    lost[4]["metrics"] |= {"knn": None, "linear": None}
    assert word("C.T7.6", evidence_of(lost + bad)) == "undecided at 4 seeds"
    both = [make("F7.both", seed) for seed in range(5)]
    assert word("C.F7.3", evidence_of(both)) == "direction confirmed"
    both[4] = in_state(both[4], "nan")
    both[4]["metrics"] |= dict.fromkeys(("entropy", "kl", "mean_entropy"))
    assert word("C.F7.3", evidence_of(both)) == "undecided at 5 seeds"


def test_an_outlier_among_five_seeds_decides_nothing(make: Make, evidence_of: EvidenceOf) -> None:
    same = runs(make, "F6R.prev_epoch", [70.0, 70.3, 69.8, 70.1, 70.2])
    for value in (30.0, 99.0):
        other = runs(make, "F6R.momentum", [70.1, 70.0, 70.2, 69.9, value])
        assert word("C.F6.4", evidence_of(same + other)) not in DECIDED


def test_verdicts_do_not_hang_on_the_order_of_records_nor_on_the_names_of_seeds(
    make: Make, evidence_of: EvidenceOf
) -> None:
    def made(seeds: dict[int, int]) -> list[Record]:
        records = []
        for row, knn in (("T7.r1", 74.0), ("T7.r5", 68.0), ("T7.r4", 72.0)):
            for seed, named in seeds.items():
                value = knn + np.sin(17.0 * seed + knn)
                records.append(make(row, named, knn=value, linear=value + 3))
        return records

    records = made({0: 0, 1: 1, 2: 2})
    first = {v.id: (str(v.verdict), v.flips) for v in judge_ours(load("T7"), evidence_of(records))}
    random.Random(0).shuffle(records)
    for others in (records, made({0: 2, 1: 0, 2: 1})):
        found = judge_ours(load("T7"), evidence_of(others))
        assert {v.id: (str(v.verdict), v.flips) for v in found} == first


def test_one_comparison_has_one_verdict_wherever_it_stands(
    make: Make, evidence_of: EvidenceOf
) -> None:
    """C.T7.9, C.T13.1 and C.T2.2 are of the same runs, and of one p each."""
    records = []
    for number, row in enumerate(("T7.r1", "T7.r7", "T7.r8", "T7.r9")):
        knn = [70.0 - 0.8 * number + np.cos(5.0 * number + s) for s in range(3)]
        records += [make(row, s, knn=v, linear=v + 2) for s, v in enumerate(knn)]
    evidence = evidence_of(records)
    by_key: dict[Any, set[float]] = {}
    for name in ("T7", "T13", "T2"):
        for found in judge_ours(load(name), evidence):
            for statement in found.statements:
                expression = statement.expression
                if expression is not None and not isinstance(expression, Identity):
                    p = float(min(expression.p))
                    by_key.setdefault(statement.key, set()).add(round(p, 12))
    assert by_key
    assert all(len(found) == 1 for found in by_key.values())
    assert len({word(claim, evidence) for claim in ("C.T7.9", "C.T13.1", "C.T2.2")}) == 1


# What only shares of repetitions can show.


@pytest.fixture(scope="module")
def staged() -> Iterator[dict[str, Stage]]:
    with stages("no_worse", "curve_above", "smaller_gap") as made:
        yield made


def decided(stage: Stage, scene: Scene, seeds: int, repetitions: int) -> tuple[Any, Any]:
    """Shares of repetitions in which each claim is confirmed, and contradicted."""
    equal, numbers = NOISES["equal spreads"], np.random.default_rng(seeds)
    found = stage.decided(draw(scene, equal, seeds, repetitions, numbers))
    return found.confirmed.mean(axis=1), found.contradicted.mean(axis=1)


def test_true_ties_can_be_confirmed_as_no_worse(staged: dict[str, Stage]) -> None:
    stage = staged["no_worse"]
    tied = replace(stage.scene, means={("knn", r): 70.0 for r in range(8)})
    confirmed, contradicted = decided(stage, tied, 12, 400)
    assert confirmed.min() > 0.7
    assert contradicted.max() <= 0.01
    few, _ = decided(stage, tied, 3, 400)
    assert few.max() < confirmed.min()


@pytest.mark.parametrize("lead", [0.3, 0.7, 1.0])
def test_a_curve_that_truly_leads_is_contradicted_in_at_most_5_percent(
    lead: float, staged: dict[str, Stage]
) -> None:
    """By 0.3 to 1.0 points at every evaluation, with one point of noise in the gap."""
    stage, flat = staged["curve_above"], np.full(POINTS["knn"], 60.0)
    curves = {("student_knn", r): flat for r in range(8)}
    curves |= {("knn", r): flat + lead for r in range(8)}
    ahead = replace(stage.scene, curves=curves)
    for seeds in (3, 5):
        _, contradicted = decided(stage, ahead, seeds, 1_000)
        assert contradicted.max() <= ALPHA + allowed(ALPHA, 1_000)


def test_gaps_are_compared_by_their_size_whatever_their_sign(staged: dict[str, Stage]) -> None:
    """Linear below k-NN everywhere: by half a point in one row, by six in others (C.T2.3)."""
    stage = staged["smaller_gap"]
    sizes = {0: -0.5, 1: -6.0, 2: 0.5, 3: -6.0, 4: -6.0, 5: 0.5, 6: -6.0, 7: -6.0}
    signed = {("linear", r): 70.0 + gap for r, gap in sizes.items()}
    signed |= {("knn", r): 70.0 for r in sizes}
    confirmed, contradicted = decided(stage, replace(stage.scene, means=signed), 5, 300)
    assert confirmed[:2].min() > 0.9
    assert contradicted[:2].max() <= 0.01
    assert contradicted[2] > 0.9
    assert max(confirmed[3], contradicted[3]) <= ALPHA + allowed(ALPHA, 300)
