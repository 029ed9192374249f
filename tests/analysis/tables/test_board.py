"""What `repro status` shows beside the seeds of an experiment, from what is published."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from analysis.evidence.evidence import Evidence, published_evidence
from analysis.tables import board as boards
from analysis.tables.board import Board, board
from analysis.tables.table import build
from repro.harness.experiments.experiment import experiment_ids, load, run_name


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return published_evidence("laptop")


@pytest.fixture(autouse=True)
def as_own_runs(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "load_evidence", lambda *_: evidence)


def made(name: str) -> Board:
    found = board(name, "laptop")
    assert found is not None
    return found


@pytest.mark.parametrize("name", experiment_ids())
def test_every_run_of_every_experiment_has_a_line_under_the_heads(name: str) -> None:
    experiment, found = load(name), made(name)
    runs = [run_name(row, v) for row in experiment.rows for v in experiment.runs_a_row]
    assert list(found.lines) == runs
    assert {len(line) for line in found.lines.values()} == {len(found.heads)}
    assert sorted(found.weights) == list(range(len(found.heads)))
    assert len(found.cells) == len(experiment.rows) * len(experiment.metrics)


def test_ours_of_the_first_metric_weighs_most_then_the_papers_number_then_the_verdict() -> None:
    found = made("T7")
    assert [found.heads[i] for i in found.weights] == [
        "k-NN ours",
        "k-NN paper",
        "verdict",
        "Lin. ours",
        "Lin. paper",
    ]


def test_the_numbers_are_those_of_the_table(evidence: Evidence) -> None:
    experiment, found = load("T7"), made("T7")
    for line in build(experiment, evidence).lines:
        table = [entry.text for entry in line.entries]
        texts = [text.plain for text in found.lines[line.row]]
        assert texts[-1] == table[-1]
        assert set(texts) <= set(table)


def test_a_claim_in_a_verdict_has_the_colour_of_its_verdict() -> None:
    verdict = made("T7").lines["r9"][-1]
    (span,) = verdict.spans
    assert verdict.plain[span.start : span.end] == "C.T7.2 direction confirmed"
    assert span.style == "green"
    several = next(x[-1] for x in made("F7").lines.values() if x[-1].plain.startswith("C.F7.1"))
    of = {several.plain[one.start : one.end]: one.style for one in several.spans}
    assert of == {"C.F7.1 undecided at 3 seeds": "yellow", "C.F7.4 direction confirmed": "green"}


def test_a_line_of_a_variant_has_the_columns_of_its_variant_alone() -> None:
    found = made("T8")
    line = dict(zip(found.heads, found.lines["l0.300ep"], strict=True))
    assert line["300 ep. Lin. paper"].plain == "72.5"
    assert line["100 ep. Lin. paper"].plain == line["mem. ours"].plain == ""


def test_an_experiment_of_which_nothing_counts_yet_has_no_board(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Evidence("laptop", {})
    monkeypatch.setattr(boards, "load_evidence", lambda *_: nothing)
    assert board("T7", "laptop") is None


def test_an_experiment_without_metrics_has_no_board(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = replace(load("F6R"), metrics=(), claims=())
    monkeypatch.setattr(Evidence, "experiment", lambda *_: bare)
    monkeypatch.setattr(boards, "load_evidence", lambda *_: dataclasses.replace(evidence))
    assert board("F6R", "laptop") is None
