"""Verdicts by simulation: intervals cover what they claim, false verdicts stay below 5 % with Holm,
and the power that the seed planner prints is the power that the verdicts have.

Made-up seeds go through the functions that judge real ones (`judge_cells`, `judge_ours`), with an
experiment of eight pairs of rows, a claim a pair. Thresholds allow three standard errors.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from msgspec import structs

from analysis.evidence.evidence import Evidence
from analysis.evidence.stats import mean_interval, pooled
from analysis.verdicts.cells import judge_cells, margin_of
from analysis.verdicts.claims import judge_ours
from analysis.verdicts.power import plan_power, power_of_difference, power_of_equivalence
from repro.harness.experiments.claims import Contrast
from repro.harness.experiments.experiment import Experiment, load
from tests.analysis.conftest import made_up

SEEDS = (2, 3, 5, 8)
PAIRS = 8
REPORTED = 70.0
SD = 0.5


def allowed(rate: float, trials: int) -> float:
    """Three standard errors of a simulated rate."""
    return 3 * math.sqrt(rate * (1 - rate) / trials)


def experiment_of(folder: Path, repository: Path, pairs: int) -> Experiment:
    for part in ("base", "scales"):
        shutil.copytree(repository / "experiments" / part, folder / part)
    names = [f"{side}{i}" for i in range(pairs) for side in "ab"]
    content = {
        "id": "X1",
        "kind": "table",
        "title": "Pairs",
        "where": "nowhere",
        "source": ["S1"],
        "question": "Are the rules calibrated?",
        "layout": [],
        "metrics": [{"key": "knn", "title": "k-NN", "unit": "%", "decimals": 1}],
        "rows": [{"name": n, "label": n, "reported": {"knn": REPORTED}} for n in names],
        "claims": [
            {
                "id": f"C.{i}",
                "statement": f"a{i} beats b{i}",
                "portability": "L",
                "kind": "greater",
                "better": f"X1.a{i}.knn",
                "worse": f"X1.b{i}.knn",
            }
            for i in range(pairs)
        ],
    }
    path = folder / "X1.yaml"
    path.write_text(yaml.safe_dump(content))
    return load(path)


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Experiment:
    return experiment_of(tmp_path_factory.mktemp("eight"), repository, PAIRS)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Experiment:
    return experiment_of(tmp_path_factory.mktemp("one"), repository, 1)


def evidence_of(experiment: Experiment, values: dict[str, np.ndarray]) -> Evidence:
    """Evidence at paper scale whose cells have these values, by row."""
    cells = {
        ("X1", row): {"knn": dict(enumerate(numbers.tolist()))} for row, numbers in values.items()
    }
    return made_up("paper", [experiment], cells)


def drawn(
    experiment: Experiment, random: np.random.Generator, n: int, means: dict[str, float]
) -> Evidence:
    rows = [row.name for row in experiment.rows]
    return evidence_of(
        experiment, {name: random.normal(means.get(name[0], REPORTED), SD, n) for name in rows}
    )


@pytest.mark.parametrize("n", SEEDS)
def test_an_interval_covers_the_mean_in_95_percent(n: int) -> None:
    random, trials = np.random.default_rng(n), 20_000
    draws = random.normal(REPORTED, SD, (trials, n))
    hits = 0
    for values in draws:
        interval = mean_interval(values.tolist())
        hits += interval.low <= REPORTED <= interval.high
    assert abs(hits / trials - 0.95) < 0.01


@pytest.mark.parametrize("n", [1, 2])
def test_an_interval_with_a_borrowed_spread_covers_the_mean_in_95_percent(n: int) -> None:
    random, trials = np.random.default_rng(n), 10_000
    hits = 0
    for _ in range(trials):
        others = random.normal(60.0, SD, (4, 3)).tolist()  # four rows of three seeds
        values = random.normal(REPORTED, SD, n).tolist()
        interval = mean_interval(values, spread=pooled([*others, values]))
        hits += interval.low <= REPORTED <= interval.high
    assert abs(hits / trials - 0.95) < 0.01


@pytest.mark.parametrize("n", SEEDS)
def test_a_table_is_falsely_reproduced_in_at_most_5_percent(n: int, eight: Experiment) -> None:
    """Every cell lies as far from the paper's number as the margin allows: none is reproduced."""
    margin = margin_of(eight.metrics[0])
    assert margin is not None
    random, trials = np.random.default_rng(n), 1_000
    false = 0
    for _ in range(trials):
        evidence = drawn(eight, random, n, {"a": REPORTED + margin, "b": REPORTED - margin})
        words = {str(verdict.verdict) for verdict in judge_cells(eight, evidence).values()}
        false += bool(words & {"reproduced"})
    assert false / trials <= 0.05 + allowed(0.05, trials)
    assert n > 2 or false == 0


@pytest.mark.parametrize("n", SEEDS)
def test_a_cell_that_is_the_papers_own_falsely_differs_in_at_most_5_percent(
    n: int, eight: Experiment
) -> None:
    random, trials = np.random.default_rng(n), 300
    false = total = 0
    for _ in range(trials):
        verdicts = judge_cells(eight, drawn(eight, random, n, {}))
        false += sum(str(v.verdict) in ("differs", "reproduced+") for v in verdicts.values())
        total += len(verdicts)
    assert false / total <= 0.05


@pytest.mark.parametrize("n", SEEDS)
def test_a_table_of_equal_rows_confirms_a_direction_in_at_most_5_percent(
    n: int, eight: Experiment
) -> None:
    random, trials = np.random.default_rng(n), 1_000
    confirmed = contradicted = 0
    for _ in range(trials):
        words = [str(v.verdict) for v in judge_ours(eight, drawn(eight, random, n, {}))]
        confirmed += "direction confirmed" in words
        contradicted += "direction contradicted" in words
    assert confirmed / trials <= 0.05 + allowed(0.05, trials)
    assert (confirmed + contradicted) / trials <= 0.05 + allowed(0.05, trials)
    assert n > 2 or confirmed + contradicted == 0


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("gap", [0.8, 1.5])
def test_the_planners_power_of_a_claim_is_that_of_its_verdict(
    n: int, gap: float, one: Experiment
) -> None:
    random, trials = np.random.default_rng(n), 4_000
    confirmed = 0
    for _ in range(trials):
        (verdict,) = judge_ours(one, drawn(one, random, n, {"a": REPORTED + gap}))
        confirmed += str(verdict.verdict) == "direction confirmed"
    printed = power_of_difference(gap, math.sqrt(2) * SD, n, 0.05)
    assert abs(confirmed / trials - printed) < 0.03


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_planners_power_of_a_number_between_two_bounds_is_that_of_its_verdict(
    n: int, one: Experiment
) -> None:
    (claim,) = one.claims
    body = Contrast(terms={"X1.a0.knn": 1, "X1.b0.knn": -1}, above=0.5, below=3.5)
    bounded = structs.replace(one, claims=(structs.replace(claim, body=body),))
    random, trials = np.random.default_rng(n), 2_000
    confirmed = 0
    for _ in range(trials):
        (verdict,) = judge_ours(bounded, drawn(bounded, random, n, {"a": REPORTED + 1.5}))
        confirmed += str(verdict.verdict) == "direction confirmed"
    printed = power_of_equivalence(1.5, math.sqrt(2) * SD, n, 0.05 / 2, gap=1.5 - 2.0)
    assert abs(confirmed / trials - printed) < 0.03
    planned = next(p for p in plan_power(bounded, drawn(bounded, random, n, {})) if p.claim)
    assert (planned.claim, planned.margin) == (claim.id, 1.5)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_planners_power_of_a_cell_is_that_of_its_verdict(n: int, one: Experiment) -> None:
    margin = margin_of(one.metrics[0])
    assert margin is not None
    random, trials = np.random.default_rng(n), 4_000
    reproduced = 0
    for _ in range(trials):
        evidence = drawn(one, random, n, {})
        # One row alone, so that Holm has one test.
        reproduced += judge_one(one, evidence) == "reproduced"
    printed = power_of_equivalence(margin, SD, n, 0.05)
    assert abs(reproduced / trials - printed) < 0.03


def judge_one(experiment: Experiment, evidence: Evidence) -> str:
    alone = structs.replace(experiment, rows=experiment.rows[:1])
    return str(judge_cells(alone, evidence)["a0", "knn"].verdict)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_formulas_of_power_agree_with_drawing(n: int) -> None:
    random, trials = np.random.default_rng(n), 40_000
    from scipy.special import stdtrit

    values = random.normal(0.0, 1.0, (trials, n))
    error = values.std(axis=1, ddof=1) / math.sqrt(n)
    for size in (0.5, 1.0, 2.0, 4.0):
        difference = np.mean(values.mean(axis=1) + size > stdtrit(n - 1, 0.975) * error)
        inside = np.mean(abs(values.mean(axis=1)) + stdtrit(n - 1, 0.95) * error < size)
        assert power_of_difference(size, 1.0, n, 0.05) == pytest.approx(difference, abs=0.01)
        assert power_of_equivalence(size, 1.0, n, 0.05) == pytest.approx(inside, abs=0.01)


def test_the_planner_names_enough_seeds_and_not_more(one: Experiment) -> None:
    evidence = drawn(one, np.random.default_rng(4), 3, {"a": REPORTED + 1.0})
    (comparison,) = (p for p in plan_power(one, evidence) if p.claim)
    assert comparison.needed is not None
    assert comparison.needed > 3
    gap, sd = comparison.gap, comparison.sd
    assert power_of_difference(gap, sd, comparison.needed, 0.05) >= 0.8
    assert power_of_difference(gap, sd, comparison.needed - 1, 0.05) < 0.8
