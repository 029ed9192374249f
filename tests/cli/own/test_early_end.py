"""An own file whose runs may end early, on a collapse: from the file to its table and verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.experiments.experiment import load, row_config
from repro.harness.experiments.folders import own_dir
from repro.harness.runs.store import find_runs
from tests.cli.calling import json_of, mistake

FILE = """
id: early
kind: table
title: Without centering
where: here
question: Does one dimension dominate without centering?
at: {smoke: {train.epochs: 15, eval.every_epochs: 5}}
layout: [{key: what, title: what}]
metrics:
  - {key: knn, title: k-NN, unit: "%", decimals: 1}
  - {key: kl, title: KL, unit: nats, decimals: 2}
rows:
  - {name: both, label: both, cells: {what: both}, reported: {}}
  - name: one
    label: sharpening only
    cells: {what: sharpening}
    overrides: {target.centering: false, train.stop_on: collapse, train.stop_after: 0.4}
    reported: {}
claims:
  - {id: C.early.1, statement: it collapses, portability: M, kind: collapse, rows: [early.one]}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (results / "published").mkdir(parents=True)
    own_dir().mkdir(parents=True)
    path = own_dir() / "early.yaml"
    path.write_text(FILE)
    return path


@pytest.mark.slow
def test_a_row_that_may_end_early_does_and_its_table_and_claims_say_so(
    file: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "early", "--scale", "smoke", "--seeds", "1", "--yes"]) == 0
    capsys.readouterr()
    done = {folder.read_run().row: folder.result() or {} for folder in find_runs(results / "runs")}
    assert "stopped_on" not in done["both"]
    end = done["one"]["stopped_on"]
    assert end["step"] < end["of"] == 60
    told = {entry["row"]: entry for entry in json_of(capsys, "status", "early")["runs"]}
    assert {entry["state"] for entry in told.values()} == {"done"}
    assert (told["both"]["stopped_on"], told["one"]["stopped_on"]) == (None, end)
    assert main(["table", "early", "--scale", "smoke", "--format", "md"]) == 0
    share = f"{end['step'] / 60:.0%}"
    said = f"Stopped early, on collapse: sharpening only (1 run, at {share} of training)."
    assert said in capsys.readouterr().out.replace("\n", " ")
    assert main(["explain", "C.early.1", "--scale", "smoke", "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert [run["stopped_on"] for run in explained["runs"]] == [end]
    assert "missing" not in explained["evidence"]
    # Nothing is trained again: an early end is an end.
    assert main(["run", "early", "--scale", "smoke", "--seeds", "1", "--yes"]) == 0
    assert len(find_runs(results / "runs")) == 2


def test_a_row_that_does_not_say_for_how_long_is_refused_by_file_and_row(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE.replace(", train.stop_after: 0.4", ""))
    said = mistake(capsys, "plan", "early", "--scale", "smoke")
    assert "early.yaml: row one: train.stop_on=collapse says not for how long" in said


def test_only_the_row_that_says_so_may_end_early(file: Path) -> None:
    early = load("early")
    stops = [row_config(early, row, "smoke", 0).train.stop_after for row in early.rows]
    assert stops == [0.0, 0.4]
