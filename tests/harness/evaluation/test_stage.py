"""The stage after training: what it measures, that it is done once, that its failure is its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.config.compose import compose
from repro.harness.evaluation import stage as evaluation
from repro.harness.evaluation.names import PROTOCOLS, kind_of
from repro.harness.evaluation.protocol import Kind, Protocol, Subject
from repro.harness.evaluation.requests import ask
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.environment import Environment
from repro.harness.runs.evaluations import Request
from repro.harness.runs.records import (
    PublishedEvaluation,
    as_line,
    evaluations_of,
    record,
    with_evaluations,
)
from repro.harness.runs.store import RunFolder, create_run
from tests.conftest import MakeConfig
from tests.data.test_folders import write_tree
from tests.harness.processes import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    results = tmp_path_factory.mktemp("results")
    folder = create_run(results / "runs", "one", smoke({"eval.knn_k": 20}))
    code, output = train(folder)
    assert code == 0, output
    return folder


def test_a_worker_evaluates_what_it_trained(trained: RunFolder) -> None:
    found = trained.evaluations()["knn"]
    assert set(found.metrics) == {"knn_10", "knn_20", "knn_100", "knn_200"}
    # The checkpoint's teacher is the one that the last evaluation in training saw.
    assert found.metrics["knn_20"] == (trained.result() or {})["metrics"]["knn"]
    assert found.step == trained.step
    assert evaluation.missing(trained) == []


def test_its_numbers_join_the_record(trained: RunFolder) -> None:
    assert "knn_10" not in record(trained).metrics
    joined = with_evaluations(record(trained), evaluations_of(trained))
    made = trained.evaluations()["knn"]
    assert joined.metrics["knn_10"] == made.metrics["knn_10"]
    assert joined.evaluations["knn"].env.git_sha == (made.env or {})["git_sha"]
    assert "diff" not in as_line(joined.evaluations["knn"])["env"]


def test_of_two_evaluations_of_one_name_the_later_one_counts(trained: RunFolder) -> None:
    run = record(trained)
    old, new = (
        PublishedEvaluation(
            schema=1, run=run.id, slug=run.slug, name="linear", request={}, step=1,
            metrics={"linear": value}, env=Environment(), wall_seconds=1.0,
        )
        for value in (1.0, 2.0)
    )  # fmt: skip
    joined = with_evaluations(run, [old, new])
    assert joined.metrics == {**run.metrics, "linear": 2.0}


def test_a_failed_evaluation_holds_back_no_other_one(
    trained: RunFolder, smoke: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = smoke({"eval.knn_k": 20})
    nowhere = replace(config.paths, benchmarks={"davis17": "/nowhere"})
    protocols = replace(config.protocols, stand_ins={"voc12": "composites"})
    ask(trained, ["video@davis17", "logistic"], replace(config, paths=nowhere, protocols=protocols))
    assert not evaluation.evaluate(trained)
    assert "logistic" in trained.evaluations()
    said = capsys.readouterr().out
    assert "evaluation video@davis17 failed (data): /nowhere: no ImageSets" in said
    assert evaluation.missing(trained) == ["video@davis17"]
    (trained.path / "evaluations" / "video@davis17.request.json").unlink()


def test_folders_of_benchmarks_may_name_variables_of_the_node(
    trained: RunFolder, smoke: MakeConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = smoke({"eval.knn_k": 20})
    staged = replace(config.paths, benchmarks={"davis17": "$STAGED/DAVIS"})
    protocols = replace(config.protocols, stand_ins={"voc12": "composites"})
    ask(trained, ["video@davis17"], replace(config, paths=staged, protocols=protocols))
    assert not evaluation.evaluate(trained)
    assert "$STAGED/DAVIS: STAGED is not set on" in capsys.readouterr().out
    monkeypatch.setenv("STAGED", str(tmp_path))
    assert not evaluation.evaluate(trained)
    assert f"{tmp_path}/DAVIS: no ImageSets" in capsys.readouterr().out
    (trained.path / "evaluations" / "video@davis17.request.json").unlink()


def test_a_new_protocol_is_a_function_and_an_entry(
    trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(wanted: Request, subject: Subject) -> dict[str, float]:
        weights = sum(p.numel() for p in subject.backbone.parameters())
        return {"weights": float(weights), "epochs": wanted.settings["linear_epochs"]}

    entry = Protocol(
        "a toy", Kind.speed, ("weights", "epochs"), measure, settings=("linear_epochs",)
    )
    monkeypatch.setitem(PROTOCOLS, "toy", entry)  # type: ignore[arg-type]
    assert kind_of("weights") is Kind.speed
    assert main(["eval", "toy", "--weights", str(trained.path), "--epochs", "3"]) == 0
    metrics = trained.evaluations()["toy"].metrics
    assert metrics["weights"] > 1000
    assert metrics["epochs"] == 3
    for file in (trained.path / "evaluations").glob("toy.*"):
        file.unlink()


def test_it_is_done_once_and_again_only_on_request(
    trained: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trained.evaluations()["knn"].metrics
    assert evaluation.evaluate(trained)
    assert capsys.readouterr().out == ""
    assert main(["eval", "knn", "--weights", str(trained.path / "checkpoints" / "last.pt")]) == 0
    assert "evaluated knn" in capsys.readouterr().out
    assert trained.evaluations()["knn"].metrics == before


def test_its_failure_leaves_the_run_done_and_is_offered_again(
    trained: RunFolder, tmp_path: Path, smoke: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = create_run(tmp_path / "runs", "broken", smoke({"seed": 9}))
    (folder.path / "checkpoints" / "last.pt").write_bytes(b"no checkpoint")
    folder.finish({"metrics": {}})
    assert evaluation.missing(folder) == ["knn"]
    assert not evaluation.evaluate(folder)
    failed = evaluation.failure(folder)
    assert failed is not None
    name, failure = failed
    assert name == "knn"
    assert "no readable checkpoint" in failure.line
    assert folder.result() is not None
    assert "evaluation knn failed" in capsys.readouterr().out


def test_a_run_is_evaluated_on_the_images_that_it_was_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(tmp_path / "cats", images=8)
    short = {"train.epochs": 1, "optim.warmup_epochs": 0, "target.temp_warmup_epochs": 0}
    small = {"train.batch_size": 8, "eval.knn_k": 2, **short}
    overrides = {"data": "folder", "paths.data": str(root), **small}
    folder = create_run(tmp_path / "runs", "cats", compose(experiments_dir(), "smoke", overrides))
    code, output = train(folder)
    assert code == 0, output
    words = ["eval", "knn", "--weights", str(folder.path)]
    assert main(words) == 0
    before = folder.evaluations()["knn"]
    (root / "val" / "camera" / "0.png").unlink()
    assert main(words) == 1
    assert "cats: the test images are others than the run was made of" in capsys.readouterr().out
    assert folder.evaluations()["knn"] == before


@pytest.mark.parametrize("word", ["nowhere", "nowhere/last.pt"])
def test_weights_that_are_no_runs_are_one_line(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "knn", "--weights", word]) == 2
    assert "say on which images: --data NAME=PATH" in capsys.readouterr().err
