"""Verdicts on single cells, each from values that belong to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.evidence.stats import equivalent_from, p_equivalent
from analysis.verdicts.cells import judge_cell, judge_cells, margin_of
from repro.harness.experiments.experiment import load

Record = dict[str, Any]
SPREAD = (-0.2, 0.0, 0.2)


def values(mean: float, width: float = 1.0) -> list[float]:
    return [mean + width * step for step in SPREAD]


@pytest.mark.parametrize(
    ("seeds", "word"),
    [
        (values(72.9), "reproduced"),
        (values(75.0), "reproduced+"),
        (values(73.5, 4), "consistent (underpowered)"),
        (values(70.0), "differs"),
        (values(73.8, 0.9), "undecided at 3 seeds"),
    ],
)
def test_the_verdict_on_three_seeds(seeds: list[float], word: str) -> None:
    p = p_equivalent(seeds, 72.8, 1.0)
    assert str(judge_cell(seeds, 72.8, 1.0, p).verdict) == word


def test_a_verdict_says_at_which_margin_it_turns() -> None:
    seeds = values(72.9)
    turns = equivalent_from(seeds, 72.8, 0.05)
    assert (
        p_equivalent(seeds, 72.8, turns * 1.001) < 0.05 <= p_equivalent(seeds, 72.8, turns * 0.999)
    )
    assert f"{turns:.2f}" in judge_cell(seeds, 72.8, 1.0, 0.01).flips


def test_the_margin_holds_half_a_unit_of_the_last_printed_digit() -> None:
    experiment = load("T7")
    assert margin_of(experiment.metric("knn")) == pytest.approx(1.05)
    assert margin_of(load("T1").metric("im_s")) is None


def paper_cells(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence], **changes: Any
) -> dict[tuple[str, str], Any]:
    seeds = changes.pop("seeds", 3)
    records = [
        make("T7.r1", seed, "paper", knn=72.8 + 0.1 * seed, linear=76.0 + 0.1 * seed)
        for seed in range(seeds)
    ]
    for number in records:
        number["counts"]["test_images"] = 50_000
        for key, value in changes.items():
            number[key] = number[key] | value
    evidence = evidence_of(records, "paper")
    return judge_cells(evidence.experiment("T7"), evidence)


def test_at_the_papers_protocol_absolute_numbers_are_judged(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    cells = paper_cells(make, evidence_of)
    assert str(cells["r1", "knn"].verdict) == "reproduced"
    assert str(cells["r1", "linear"].verdict) == "reproduced"
    assert str(cells["r2", "knn"].verdict) == "not run"


def test_one_seed_is_consistent_at_most(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    cells = paper_cells(make, evidence_of, seeds=1)
    assert str(cells["r1", "knn"].verdict) == "consistent (underpowered)"
    assert "sampling of the test images (0.2)" in cells["r1", "knn"].rule


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sentinel": {"state": "nan"}}, "not finite (seeds 0, 1, 2)"),
        ({"env": {"dirty": True}}, "uncommitted code (seeds 0, 1, 2)"),
    ],
)
def test_runs_that_are_no_evidence_are_invalid(
    change: Record,
    why: str,
    make: Callable[..., Record],
    evidence_of: Callable[..., Evidence],
) -> None:
    cell = paper_cells(make, evidence_of, **change)["r1", "knn"]
    assert str(cell.verdict) == "invalid"
    assert why in cell.rule
