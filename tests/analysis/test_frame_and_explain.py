"""Records find their rows by run id; a printed number can be followed back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.explain import explain
from analysis.frame import (
    Evidence,
    cell,
    cells,
    config_of,
    curves,
    load_evidence,
    protocol_distance,
    reported_curves,
    row_distance,
    runs_of,
)
from repro.errors import UserError
from repro.harness.identity import canonical
from repro.harness.spec import load

Record = dict[str, Any]


def test_one_run_serves_every_table_that_has_its_row(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    evidence = evidence_of([make("F7.both", 0), make("F7.both", 4)])
    for name, row in (("F7", "both"), ("F6R", "momentum"), ("T7", "r1"), ("F6L", "momentum")):
        experiment = load(name)
        assert sorted(runs_of(experiment, experiment.row(row), evidence)) == [0, 4], name
    assert runs_of(load("T7"), load("T7").row("r2"), evidence) == {}


def test_a_run_with_another_config_serves_no_row(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    record = make("F7.both", 0)
    record["id"] = "0" * 10
    experiment = load("F7")
    assert runs_of(experiment, experiment.row("both"), evidence_of([record])) == {}


def test_a_missing_cell_says_why(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    evidence = evidence_of([make("T7.r1", 0)])
    table = load("T7")
    assert cell(table, table.row("r1"), "knn", evidence).values == {0: 75.0}
    assert cell(table, table.row("r1"), "linear", evidence).missing == "not measured by these runs"
    assert cell(table, table.row("r2"), "knn", evidence).missing == "not run"
    compared = load("T2")
    assert "reported only" in cell(compared, compared.row("rn50_sup"), "knn", evidence).missing
    frame = cells(table, evidence)
    assert len(frame) == len(table.rows) * len(table.metrics)
    assert frame["mean"].notna().sum() == 1


def test_curves_are_shares_of_each_ones_own_training(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    figure = load("F7")
    ours = curves(figure, evidence_of([make("F7.both", 0)]))
    assert ours["fraction"].max() == 1.0
    assert set(ours["metric"]) == {"entropy", "kl"}
    paper = reported_curves(figure)
    both = paper[(paper["row"] == "both") & (paper["metric"] == "entropy")]
    assert both["fraction"].tolist()[-1] == pytest.approx(0.98)
    assert both["value"].tolist()[0] == 7.82


def test_the_protocol_distance_is_zero_at_paper_scale_only() -> None:
    table = load("T7")
    assert row_distance(table, table.row("r1"), "paper") == {}
    distance = row_distance(table, table.row("r1"), "laptop")
    assert distance["data.name"] == ("skimage16", "imagenet")
    assert "seed" not in distance
    paper = canonical(config_of(table, table.row("r1"), "paper"))
    assert protocol_distance(paper | {"seed": 5}, paper) == {}


def test_explain_leads_from_a_number_to_its_runs_and_its_config(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    published([make("T7.r2", seed, knn=55.0 + seed) for seed in range(3)])
    found = explain("T7:r2:knn", "laptop")
    assert (found["reported"], found["mean"], found["n"]) == (0.1, 56.0, 3)
    low, high = found["interval"]
    assert low < 56 < high
    assert [run["value"] for run in found["runs"]] == [55.0, 56.0, 57.0]
    assert all(run["git_sha"] == "0123456789abcdef" for run in found["runs"])
    assert found["config_difference"]["train.epochs"] == {"ours": 10, "paper": 300}
    assert found["verdict"] == "n/a at this scale"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("T7", "write ID:ROW:METRIC"),
        ("T7:r2:kn", "nearest: knn"),
        ("T7:r22:knn", "nearest"),
        ("T77:r2:knn", "nearest"),
    ],
)
def test_a_cell_that_does_not_exist_gets_the_nearest(
    address: str, message: str, results: Path
) -> None:
    with pytest.raises(UserError, match=message):
        explain(address, "laptop")


def test_published_records_and_finished_folders_are_one_body_of_evidence(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    published([make("T7.r1", 0)])
    assert len(load_evidence("laptop").records) == 1
    assert load_evidence("gpu").records == {}
