"""Requests: a table's columns say what is measured; a run folder holds what it was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from repro.config.compose import compose
from repro.config.schema import Paths
from repro.harness.evaluation import stage as evaluation
from repro.harness.evaluation.names import PROTOCOLS, evaluations, numbers, protocol_of, tier_of
from repro.harness.evaluation.requests import ask, request_for, requests_in, without_data
from repro.harness.evaluation.stage import evaluate, missing
from repro.harness.experiments.clusters import load_cluster
from repro.harness.experiments.experiment import experiment_ids, load
from repro.harness.plan.plan import plan
from repro.harness.runs.store import RunFolder, create_run
from tests.conftest import MakeConfig


def test_every_protocol_answers_for_numbers_of_its_own() -> None:
    every = [metric for protocol in PROTOCOLS for metric in numbers(protocol)]
    assert len(every) == len(set(every))
    for protocol in PROTOCOLS:
        assert {protocol_of(metric) for metric in numbers(protocol)} == {protocol}


@pytest.mark.parametrize(
    ("metric", "name", "tier"),
    [
        ("knn", "", ""),
        ("im_s", "", ""),
        ("knn_20@10pct", "knn@10pct", ""),
        ("linear", "linear", "official"),
        ("linear_clean", "linear", "clean"),
        ("jaccard@voc12", "attention@voc12", "official"),
        ("jaccard_random_clean@voc12", "attention@voc12", "clean"),
    ],
)
def test_a_metric_names_its_protocol_its_benchmark_and_its_tier(
    metric: str, name: str, tier: str
) -> None:
    assert protocol_of(metric) == name
    assert tier_of(metric) == tier


def test_metrics_of_one_protocol_are_one_request() -> None:
    assert evaluations(["knn", "linear", "linear_clean", "jaccard@voc12"]) == (
        "linear",
        "attention@voc12",
    )


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu"])
def test_what_stands_for_a_benchmark_is_what_its_protocol_makes(
    scale: str, repository: Path
) -> None:
    makes = {b: known.stand_in for known in PROTOCOLS.values() for b in known.benchmarks}
    chosen = compose(repository / "experiments", scale).protocols.stand_ins
    assert chosen.items() <= makes.items()
    for known in PROTOCOLS.values():
        assert bool(known.stand_in) == bool(known.benchmarks)


@pytest.mark.parametrize("name", experiment_ids())
def test_every_column_of_every_experiment_is_a_number_that_something_leaves(name: str) -> None:
    of_training = {
        "knn", "student_knn", "im_s", "params_M", "tokens", "time_h", "mem_G", "kl", "entropy",
    }  # fmt: skip
    experiment = load(name)
    for row in (row for row in experiment.rows if row.trainable):
        for variant in experiment.runs_a_row:
            for metric in experiment.sources(row, variant):
                assert metric in of_training or protocol_of(metric), f"{name}:{row.name}: {metric}"


def test_a_stand_in_serves_small_scales_and_a_folder_the_paper_s(smoke: MakeConfig) -> None:
    small = request_for("attention@voc12", smoke())
    assert (small.protocol, small.data, small.source) == ("attention", "voc12", "composites")
    assert not without_data(small)
    config = smoke()
    config = replace(config, protocols=replace(config.protocols, stand_ins={}))
    assert without_data(request_for("attention@voc12", config))
    placed = replace(config, paths=Paths(benchmarks={"voc12": "/data/voc"}))
    found = request_for("attention@voc12", placed)
    assert (found.source, found.root) == ("voc12", "/data/voc")
    assert not without_data(found)


@pytest.fixture
def finished(tmp_path: Path, smoke: MakeConfig) -> RunFolder:
    folder = create_run(tmp_path / "runs", "one", smoke())
    (folder.path / "checkpoints" / "last.pt").touch()
    folder.finish({"metrics": {}})
    return folder


def test_a_run_is_asked_through_its_folder_and_answers_once(
    finished: RunFolder, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(evaluation, "_make", lambda _f, wanted: made.append(wanted.name))
    assert missing(finished) == ["knn"]
    ask(finished, ["linear", "attention@voc12"], smoke())
    assert set(requests_in(finished)) == {"linear", "attention@voc12"}
    assert finished.evaluations() == {}
    assert missing(finished) == ["knn", "attention@voc12", "linear"]
    assert evaluate(finished)
    assert made == ["knn", "attention@voc12", "linear"]


def test_an_answer_with_other_settings_is_made_again_and_a_moved_folder_is_not(
    finished: RunFolder, smoke: MakeConfig
) -> None:
    from dataclasses import asdict

    from repro.files import write_json

    wanted = request_for("linear", smoke())
    answer = {"request": asdict(replace(wanted, root="/elsewhere")), "metrics": {"linear": 1.0}}
    ask(finished, ["linear"], smoke())
    write_json(finished.path / "evaluations" / "linear.json", answer)
    assert missing(finished) == ["knn"]
    ask(finished, ["linear"], smoke({"protocols.linear_epochs": 7}))
    assert missing(finished) == ["knn", "linear"]


def test_a_benchmark_without_data_is_not_asked_for_and_the_plan_says_so(
    finished: RunFolder, tmp_path: Path, smoke: MakeConfig
) -> None:
    config = smoke()
    bare = replace(config, protocols=replace(config.protocols, stand_ins={}))
    ask(finished, ["attention@voc12"], bare)
    assert requests_in(finished) == {}
    assert plan(["AD_attn"], "paper", 1, tmp_path).without_data == ("voc12",)
    assert plan(["AD_attn"], "smoke", 1, tmp_path).without_data == ()
    cluster = structs.replace(load_cluster("local"), data={"voc12": "/data/voc"})
    assert plan(["AD_attn"], "paper", 1, tmp_path, cluster).without_data == ()


def test_a_finished_run_is_to_evaluate_before_its_folder_was_asked(tmp_path: Path) -> None:
    (run,) = plan(["AD_attn:dino"], "smoke", 1, tmp_path).runs
    assert run.requests == ("attention@voc12",)
    folder = create_run(tmp_path / "runs", run.slug, run.config)
    (folder.path / "checkpoints" / "last.pt").touch()
    folder.finish({"metrics": {}, "wall_seconds": 1.0})
    (folder.path / "evaluations").mkdir(exist_ok=True)
    (folder.path / "evaluations" / "knn.json").write_text('{"metrics": {}}')
    assert missing(folder) == []
    (seen,) = plan(["AD_attn:dino"], "smoke", 1, tmp_path).to_evaluate
    assert seen.id == run.id
    (of_another_table,) = plan(["F7:both"], "smoke", 1, tmp_path).runs
    assert of_another_table.id == run.id
    assert of_another_table.evaluation == "done"
