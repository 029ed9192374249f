"""Records find their rows by run id; rows tell their cells, curves and configs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.distance import protocol_distance
from analysis.evidence.evidence import Evidence, load_evidence, published_evidence
from analysis.evidence.frames import cells, curves, reported_curves
from repro.config.identity import canonical
from repro.harness.experiments.experiment import load
from repro.harness.experiments.missing import Reason

Record = dict[str, Any]


def test_one_run_serves_every_table_that_has_its_row(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    evidence = evidence_of([make("F7.both", 0), make("F7.both", 4)])
    for name, row in (("F7", "both"), ("F6R", "momentum"), ("T7", "r1"), ("F6L", "momentum")):
        assert sorted(evidence.row(f"{name}.{row}").runs()) == [0, 4], name
    assert evidence.row("T7.r2").runs() == {}


def test_a_run_with_another_config_serves_no_row(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    record = make("F7.both", 0)
    record["id"] = "0" * 10
    assert evidence_of([record]).row("F7.both").runs() == {}


def test_a_missing_cell_says_why(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    evidence = evidence_of([make("T7.r1", 0)])
    table = load("T7")
    assert evidence.cell("T7.r1.knn").values == {0: 75.0}
    assert evidence.cell("T7.r1.knn").missing is None
    unmeasured = evidence.cell("T7.r1.linear").missing
    assert str(unmeasured) == "not measured by these runs"
    assert str(evidence.cell("T7.r2.knn").missing) == "not run"
    quoted = evidence.cell("T2.rn50_sup.knn").missing
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
    assert Evidence("paper", {}).row("T7.r1").distance() == {}
    row = Evidence("laptop", {}).row("T7.r1")
    distance = row.distance()
    assert distance["data.name"] == ("skimage16", "imagenet")
    assert "seed" not in distance
    paper = canonical(row.paper_config())
    assert protocol_distance(paper | {"seed": 5}, paper) == {}


def test_published_records_and_finished_folders_are_one_body_of_evidence(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    published([make("T7.r1", 0)])
    assert len(load_evidence("laptop").records) == 1
    assert load_evidence("gpu").records == {}


def test_results_elsewhere_are_shown_with_the_repositorys_records_until_they_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "elsewhere"))
    assert len(load_evidence("laptop").records) > 100
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "elsewhere" / "published").mkdir(parents=True)
    assert load_evidence("laptop").records == {}


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
    delta = evidence.cell("T10.inet10.knn_delta")
    assert delta.values == {0: 10.0, 1: 11.5}  # the third seed lacks its partner
    assert delta.reported == 9.8
    assert set(delta.runs.values()) == {records[2]["id"], records[3]["id"]}
    assert str(evidence.cell("T10.inet1.knn_delta").missing) == "not measured by these runs"
    assert str(evidence.cell("T10.voc07.knn_delta").missing).startswith("reported only")


def test_the_clean_tier_stands_beside_the_official_one(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> None:
    record = make("T7.r1", 0, linear=70.0, linear_clean=65.0)
    evidence = evidence_of([record])
    row = evidence.row("T7.r1")
    assert row.cell("linear").values == {0: 70.0}
    clean = row.clean_cell("linear")
    assert clean is not None
    assert clean.values == {0: 65.0}
    assert row.clean_cell("knn") is None


def test_evaluations_published_later_join_their_runs(
    make: Callable[..., Record], results: Path
) -> None:
    record = make("T7.r1", 0)
    folder = results / "published" / "laptop"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    request = {"protocol": "linear", "data": "", "source": "", "settings": {"linear_epochs": 30}}
    lines = [
        {"schema": 1, "run": run, "slug": "a", "name": "linear", "request": request, "step": 640}
        | {"metrics": {"linear": value}, "env": {}, "wall_seconds": 1.0}
        for run, value in ((record["id"], 1.0), (record["id"], 2.0), ("no such run", 9.0))
    ]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evidence = published_evidence("laptop")
    assert evidence.cell("T7.r1.linear").values == {0: 2.0}
    assert len(evidence.records) == 1
