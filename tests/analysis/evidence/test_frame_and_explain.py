"""Records find their rows by run id; a printed number can be followed back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.frame import (
    Evidence,
    cell,
    cells,
    clean_cell,
    config_of,
    curves,
    load_evidence,
    protocol_distance,
    reported_curves,
    resolve,
    row_distance,
    runs_of,
)
from analysis.explain import explain
from repro.config.identity import canonical
from repro.errors import UserError
from repro.harness.experiments.experiment import load
from repro.harness.experiments.missing import Reason

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
    assert cell(table, table.row("r1"), "knn", evidence).missing is None
    unmeasured = cell(table, table.row("r1"), "linear", evidence).missing
    assert str(unmeasured) == "not measured by these runs"
    assert str(cell(table, table.row("r2"), "knn", evidence).missing) == "not run"
    compared = load("T2")
    quoted = cell(compared, compared.row("rn50_sup"), "knn", evidence).missing
    assert quoted is not None
    assert quoted.reason is Reason.REPORTED_ONLY
    assert "reported only" in str(quoted)
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


def test_explain_says_what_a_claim_rests_on_and_what_would_turn_it(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    gaps = {"T7.r1": (75.0, 75.5, 76.2), "T7.r4": (70.0, 70.4, 71.3)}
    published(
        [make(row, seed, knn=value) for row, own in gaps.items() for seed, value in enumerate(own)]
    )
    found = explain("C.T7.5", "laptop")
    assert found["verdict"] == "direction confirmed (in part)"  # no linear evaluation was made
    assert found["holds"] is True
    assert found["reported"]["verdict"] == "holds"
    measured = {one["cell"]: one["mean"] for one in found["cells"]}
    assert measured["T7:r4:knn"] == pytest.approx(70.5667, abs=1e-4)
    assert measured["T7:r4:linear"] is None
    assert "holds up to a demanded gap of" in found["flips"]
    assert sorted(run["seed"] for run in found["runs"]) == [0, 0, 1, 1, 2, 2]
    assert "D7" in [entry["id"] for entry in found["deviations"]]


def test_an_explained_interval_is_the_one_of_the_table(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    records = [make("T7.r1", seed) for seed in range(3)] + [make("T7.r4", 0, knn=70.0)]
    published(records)
    found = explain("T7:r4:knn", "laptop")
    low, high = found["interval"]
    assert low < 70 < high
    assert "pooled over 1 row" in found["spread"]
    assert explain("T7:r1:knn", "laptop")["spread"] == ""


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("T7", "write ID:ROW:METRIC"),
        ("T7:r2:kn", "nearest: knn"),
        ("T7:r22:knn", "nearest"),
        ("T77:r2:knn", "nearest"),
        ("C.T7.44", "nearest: C.T7.4"),
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


def test_a_column_may_be_the_difference_of_two_seed_by_seed(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    numbers = {"rn50": (50.0, 51.0), "vits": (60.0, 62.5, 70.0)}
    records = [
        make("T10.inet10", seed, variant=variant, **{"knn_20@10pct": value})
        for variant, values in numbers.items()
        for seed, value in enumerate(values)
    ]
    evidence = evidence_of(records)
    delta = resolve("T10.inet10.knn_delta", evidence)
    assert delta.values == {0: 10.0, 1: 11.5}  # the third seed lacks its partner
    assert delta.reported == 9.8
    assert set(delta.runs.values()) == {records[2]["id"], records[3]["id"]}
    assert str(resolve("T10.inet1.knn_delta", evidence).missing) == "not measured by these runs"
    assert str(resolve("T10.voc07.knn_delta", evidence).missing).startswith("reported only")


def test_the_clean_tier_stands_beside_the_official_one(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    record = make("T7.r1", 0, linear=70.0, linear_clean=65.0)
    evidence = evidence_of([record])
    experiment = evidence.experiment("T7")
    row = experiment.row("r1")
    assert cell(experiment, row, "linear", evidence).values == {0: 70.0}
    clean = clean_cell(experiment, row, "linear", evidence)
    assert clean is not None
    assert clean.values == {0: 65.0}
    assert clean_cell(experiment, row, "knn", evidence) is None


def test_evaluations_published_later_join_their_runs(
    make: Callable[..., Record], results: Path
) -> None:
    record = make("T7.r1", 0)
    folder = results / "published" / "laptop"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    lines = [
        {"schema": 1, "run": run, "slug": "a", "name": "linear", "request": {}, "step": 640}
        | {"metrics": {"linear": value}, "env": {}, "wall_seconds": 1.0}
        for run, value in ((record["id"], 1.0), (record["id"], 2.0), ("no such run", 9.0))
    ]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evidence = load_evidence("laptop", published_only=True)
    assert resolve("T7.r1.linear", evidence).values == {0: 2.0}
    assert len(evidence.records) == 1
