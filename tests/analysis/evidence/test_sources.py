"""Own runs and published ones are two sources; of one id they are never pooled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence import rows
from analysis.evidence.evidence import Evidence, load_evidence, published_evidence
from analysis.evidence.sources import Source
from analysis.figures.runs import find_shown
from analysis.publish import append
from repro.cli import main
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.files import read_json, write_json
from repro.harness.experiments.experiment import Experiment, Row, row_config
from repro.harness.plan.plan import plan
from repro.harness.runs.store import RunFolder
from tests.analysis.test_publish import finished_run

KNN = 100 * 720 / 1024  # as `finished_run` has it for seed 0
OTHER = 100 * 660 / 1024


def train_again(folder: RunFolder) -> None:
    """Another training of the same id: other numbers, at another time."""
    result = read_json(folder.path / "result.json")
    assert result is not None
    result["metrics"]["knn"] = OTHER
    write_json(folder.path / "result.json", result)
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    events[-1]["knn"] = OTHER
    (folder.path / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    folder.update_run(started=1e9)


def evaluated(folder: RunFolder, value: float) -> None:
    (folder.path / "evaluations").mkdir(exist_ok=True)
    env = read_json(folder.path / "env.json")
    content = {"protocol": "knn", "step": 1, "metrics": {"knn_10": value}, "env": env}
    write_json(folder.path / "evaluations" / "knn.json", content)


@pytest.fixture
def twice(results: Path) -> RunFolder:
    """A run that was published, and then trained again here."""
    folder = finished_run(results, "both", 0)
    append(["F7"], "laptop")
    train_again(folder)
    return folder


def knn(evidence: Evidence) -> dict[int, float]:
    return dict(evidence.cell("F6R.momentum.knn").values)


def test_own_runs_are_shown_where_there_are_any_and_published_ones_otherwise(
    twice: RunFolder,
) -> None:
    assert knn(load_evidence("laptop")) == {0: OTHER}
    assert knn(load_evidence("laptop", asked=["F7"])) == {0: OTHER}
    elsewhere = load_evidence("laptop", asked=["AD_fig_rn50"])  # of which no run is here
    assert elsewhere.source is Source.published
    assert knn(load_evidence("laptop", Source.published)) == {0: KNN}
    (twice.path / "result.json").unlink()
    assert knn(load_evidence("laptop")) == {0: KNN}


def test_rows_are_composed_once_whichever_runs_are_shown(
    twice: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counted(experiment: Experiment, row: Row, *further: Any) -> RunConfig:
        asked.append(f"{experiment.id}.{row.name}")
        return row_config(experiment, row, *further)

    monkeypatch.setattr(rows, "row_config", counted)
    evidence = load_evidence("laptop", asked=["AD_fig_rn50"])
    assert evidence.source is Source.published
    for row in evidence.rows(evidence.experiment("AD_fig_rn50")):
        assert row.records is evidence.records
        row.runs()
    assert asked
    assert len(asked) == len(set(asked))
    assert knn(evidence) == {0: KNN}


def test_elsewhere_every_reader_finds_the_repositorys_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until the results there have published records of their own."""
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))

    def found() -> tuple[int, list[str], dict[str, int], str]:
        assert main(["list", "--json"]) == 0
        entries = {entry["id"]: entry["done"] for entry in json.loads(capsys.readouterr().out)}
        cost = plan(["F7:both"], "laptop", 1, tmp_path).cost
        try:
            shown = [run.label for run in find_shown(["F7:both"])]
        except UserError:
            shown = []
        return (
            len(load_evidence("laptop").records),
            shown,
            entries["F7"],
            cost.basis if cost else "",
        )

    records, shown, done, basis = found()
    assert records > 100
    assert "F7-both-laptop-s0" in shown
    assert done["laptop"] == 4
    assert int(basis.removesuffix(" finished")) >= records
    (tmp_path / "published").mkdir()
    assert found() == (0, [], {}, "the benchmark of a training step")


def test_together_a_run_of_both_counts_once_and_is_named(twice: RunFolder) -> None:
    both = load_evidence("laptop", Source.all)
    assert knn(both) == {0: KNN}
    assert both.twice == (twice.id,)
    assert "from different trainings" in str(both)


def test_an_evaluation_never_joins_the_record_of_another_training(twice: RunFolder) -> None:
    evaluated(twice, 12.5)
    for source in (Source.published, Source.all):
        assert "knn_10" not in load_evidence("laptop", source).records[twice.id].metrics
    assert load_evidence("laptop", Source.own).records[twice.id].metrics["knn_10"] == 12.5
    folder = twice.path.parents[1] / "published" / "laptop"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    (why,) = append(["F7"], "laptop").refused
    assert "published already, from another training" in why
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_later_evaluation_of_the_published_training_joins_it(results: Path) -> None:
    folder = finished_run(results, "both", 0)
    append(["F7"], "laptop")
    evaluated(folder, 12.5)
    assert load_evidence("laptop", Source.all).records[folder.id].metrics["knn_10"] == 12.5
    assert append(["F7"], "laptop").refused == []
    assert published_evidence("laptop").records[folder.id].metrics["knn_10"] == 12.5


def test_collapse_overlays_own_runs_published_ones_or_both(twice: RunFolder) -> None:
    (own,) = find_shown(["F7:both"])
    assert own.curves.evaluations["knn"][-1] == pytest.approx(OTHER)
    (published,) = find_shown(["F7:both"], Source.published)
    assert published.curves.evaluations["knn"][-1] == pytest.approx(KNN)
    names = [run.name for run in find_shown(["F7:both"], Source.all)]
    short = twice.id[:6]
    assert names == [
        f"F7-both-laptop-s0 ({short})", f"F7-both-laptop-s0, published ({short})"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command", [["table", "F7"], ["check", "F7"], ["explain", "F7:both:kl"], ["figure", "F7"]]
)
def test_every_reader_says_what_it_shows(
    command: list[str], twice: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    main(command)
    assert "evidence: 1 own run at laptop scale; --evidence" in capsys.readouterr().err
    main([*command, "--evidence", "published"])
    assert "evidence: 1 published run at laptop scale\n" in capsys.readouterr().err


def test_check_tells_programs_what_it_judged(
    twice: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", "F7", "--json"])
    assert json.loads(capsys.readouterr().out)["source"] == "own"


def test_an_explanation_names_the_folder_of_an_own_run_alone(
    twice: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["explain", "F7:both:kl", "--json"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["from"] == str(twice.path)
    main(["explain", "F7:both:kl", "--json", "--evidence", "published"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["from"] == "results/published/laptop/records.jsonl"
