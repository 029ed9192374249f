"""Plans: every run once, what is done is not done again, and nothing is started or written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from repro.config.identity import canonical
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.files import write_json
from repro.harness.evaluation.names import TRAINING
from repro.harness.experiments.experiment import load, row_config
from repro.harness.plan.cost import work
from repro.harness.plan.plan import Plan, plan
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.store import RunFolder, create_run


def load_config(experiment: str, row: str, scale: str) -> RunConfig:
    spec = load(experiment)
    return row_config(spec, spec.row(row), scale, 0)


def make(results: Path, run: PlannedRun) -> RunFolder:
    return create_run(results / "runs", run.slug, run.config)


def finish(
    folder: RunFolder, wall_seconds: float, threads: int = 2, gpu: str | None = None
) -> None:
    hardware = {"cpu": "any", "cores": 2, "threads": threads, "gpu": gpu}
    write_json(folder.path / "env.json", {"hardware": hardware})
    folder.finish({"wall_seconds": wall_seconds, "metrics": {}})


def by_cell(planned: Plan) -> dict[tuple[str, str, int], PlannedRun]:
    return {(e, r, run.seed): run for run in planned.runs for e, r in run.serves}


def test_rows_that_are_the_same_run_are_planned_once_and_keep_all_their_cells(
    tmp_path: Path,
) -> None:
    planned = plan(["T7:r1,r2", "F7:both", "F6R:student_copy,momentum"], "laptop", 1, tmp_path)
    assert [run.serves for run in planned.runs] == [
        (("T7", "r1"), ("F7", "both"), ("F6R", "momentum")),
        (("T7", "r2"), ("F6R", "student_copy")),
    ]
    assert [run.slug for run in planned.runs] == ["T7-r1-laptop-s0", "T7-r2-laptop-s0"]
    assert planned.runs[0].config.label.experiment == "T7"


def test_rows_without_a_run_are_listed_with_the_reason_never_dropped(tmp_path: Path) -> None:
    planned = plan(["T2", "F5"], "smoke", 1, tmp_path)
    reasons = {(e, r): why for e, r, why in planned.skipped}
    assert reasons["T2", "rn50_sup"] == "reported only: quoted by the paper from other authors"
    assert reasons["F5", "b16"] == "only at scale paper"
    trained = {r for e, r, _ in by_cell(planned) if e == "T2"}
    assert len(trained) == 8
    skipped = {r for e, r in reasons if e == "T2"}
    assert skipped | trained == {row.name for row in load("T2").rows}
    assert not skipped & trained


def test_a_line_that_rests_on_several_runs_is_planned_as_all_of_them(tmp_path: Path) -> None:
    planned = plan(["T8:l0,l6"], "laptop", 1, tmp_path)
    assert [run.row for run in planned.runs] == ["l0.100ep", "l0.300ep", "l6.100ep", "l6.300ep"]
    assert [run.config.train.epochs for run in planned.runs] == [3, 10, 3, 10]
    assert [run.config.views.local_number for run in planned.runs] == [0, 0, 6, 6]
    (shared,) = plan(["T7:r4"], "laptop", 1, tmp_path).runs
    assert shared.id == planned.runs[1].id


def test_more_seeds_add_runs_and_change_none(tmp_path: Path) -> None:
    one, three = (by_cell(plan(["F7"], "smoke", n, tmp_path)) for n in (1, 3))
    assert one.items() <= three.items()
    assert len({run.id for run in three.values()}) == 12
    assert {run.config.seed for run in three.values()} == {0, 1, 2}


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    plan(["all"], "smoke", 2, tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


def test_states_come_from_the_folders_and_only_unsettled_runs_are_to_do(tmp_path: Path) -> None:
    done, failed, running, new = plan(["F7"], "smoke", 1, tmp_path).runs
    finish(make(tmp_path, done), 10)
    make(tmp_path, failed).fail(Failure(FailureKind.nan, line="not finite", step=1))
    with make(tmp_path, running).lock():
        planned = plan(["F7"], "smoke", 1, tmp_path)
        assert [run.state_name for run in planned.runs] == ["done", "failed", "running", "new"]
        assert [run.id for run in planned.todo] == [failed.id, new.id]


def test_a_run_made_for_one_table_is_done_for_another(tmp_path: Path) -> None:
    finish(make(tmp_path, plan(["F7:both"], "smoke", 1, tmp_path).runs[0]), 10)
    (shared,) = plan(["T7:r1"], "smoke", 1, tmp_path).runs
    assert (shared.state, shared.slug, shared.row) == ("done", "F7-both-smoke-s0", "r1")


@pytest.fixture
def unmeasured(tmp_path: Path) -> None:
    """Results with measurements of their own, of which there are none."""
    (tmp_path / "benchmarks").mkdir()


@pytest.mark.usefixtures("unmeasured")
def test_the_cost_is_unknown_until_a_run_of_this_scale_has_finished(tmp_path: Path) -> None:
    finish(make(tmp_path, plan(["F7:both"], "laptop", 1, tmp_path).runs[0]), 10)
    assert plan(["F7"], "smoke", 1, tmp_path).cost is None


def test_results_that_lie_elsewhere_are_priced_by_what_comes_with_the_program(
    tmp_path: Path,
) -> None:
    measured = plan(["F7"], "smoke", 1, tmp_path).cost
    finished = plan(["F7"], "laptop", 1, tmp_path).cost
    assert measured is not None
    assert measured.basis == "the benchmark of a training step"
    assert finished is not None
    assert re.fullmatch(r"\d{3} finished", finished.basis)


@pytest.mark.parametrize("gpu", [None, "NVIDIA H200"])
def test_the_cost_is_the_work_at_the_median_rate_of_finished_runs(
    tmp_path: Path, gpu: str | None
) -> None:
    runs = plan(["F7"], "smoke", 2, tmp_path).runs
    for run, seconds in zip(runs, (360, 720, 36000), strict=False):
        finish(make(tmp_path, run), seconds, threads=3, gpu=gpu)
    cost = plan(["F7"], "smoke", 2, tmp_path).cost
    assert cost is not None
    assert cost.basis == "3 finished"
    assert cost.cpu_hours == pytest.approx(0 if gpu else 5 * 0.2 * 3)
    assert cost.gpu_hours == pytest.approx(5 * 0.2 if gpu else 0)
    longer = plan(["AD_len:e800"], "smoke", 1, tmp_path)  # 5 epochs instead of 2
    assert longer.cost is not None
    hours = longer.cost.gpu_hours if gpu else longer.cost.cpu_hours
    assert hours == pytest.approx(2.5 * 0.2 * (1 if gpu else 3))


@pytest.mark.usefixtures("unmeasured")
def test_the_paper_scale_is_priced_by_table_8_until_something_has_finished(tmp_path: Path) -> None:
    cost = plan(["T8:l10"], "paper", 1, tmp_path).cost
    assert cost is not None
    assert cost.basis == "the times of Table 8 on V100 GPUs"
    # 24.2 + 72.6 hours on 16 GPUs, at the median rate of all eight cells of the table.
    assert cost.gpu_hours == pytest.approx((24.2 + 72.6) * 16, rel=0.05)
    assert cost.cpu_hours == 0


def test_the_work_of_a_vit_is_that_of_its_matrix_products() -> None:
    config = load_config("T7", "r4", "paper")  # no local crops
    n, d, depth = 197, 384, 12
    block = 12 * n * d * d + 2 * n * n * d  # qkv, projection, MLP; attention
    patches = 196 * 3 * 16 * 16 * d
    head = d * 2048 + 2048 * 2048 + 2048 * 256 + 256 * 65536
    view = 2 * (depth * block + patches + head)
    images = 300 * 1_281_167
    assert work(config) == pytest.approx(images * 2 * view * 4, rel=0.01)  # 3 student, 1 teacher
    config.data.name = "unknown"
    assert work(config) is None


def test_published_records_tell_the_cost_but_do_not_make_a_run_done(tmp_path: Path) -> None:
    (run,) = plan(["F7:both"], "smoke", 1, tmp_path).runs
    published: dict[str, Any] = {
        "schema": 1,
        "id": run.id,
        "slug": run.slug,
        "scale": "smoke",
        "seed": 0,
        "config": canonical(run.config),
        "metrics": {},
        "sentinel": {"state": "healthy", "since_step": 1, "meaning": ""},
        "counts": {},
        "curves": {},
        "times": {"wall_seconds": 1800},
        "env": {"hardware": {"cpu": "any", "cores": 2, "threads": 2, "gpu": None}},
    }
    file = tmp_path / "published" / "smoke" / "records.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(published) + "\n")
    planned = plan(["F7:both"], "smoke", 1, tmp_path)
    assert planned.runs[0].state_name == "new"
    assert planned.cost is not None
    assert planned.cost.cpu_hours == 1


def test_without_finished_runs_the_benchmark_of_a_step_tells_the_cost(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    entries = [{"scale": "laptop", "work_rate": 2e9}, {"scale": "paper", "work_rate": 5e9}]
    (folder / "cpu.json").write_text(json.dumps({"hardware": {}, "benchmarks": entries}))
    planned = plan(["F7:both"], "smoke", 1, tmp_path).cost
    assert planned is not None
    assert planned.basis == "the benchmark of a training step"
    done = work(load_config("F7", "both", "smoke"))
    assert done is not None
    assert planned.cpu_hours == pytest.approx(done / 2e9 / 3600)
    # A CPU's tells nothing of the paper scale; a GPU's does.
    at_paper = plan(["T8:l10"], "paper", 1, tmp_path).cost
    assert at_paper is not None
    assert at_paper.basis.startswith("the times of Table 8")
    (folder / "cuda.json").write_text(json.dumps({"hardware": {}, "benchmarks": entries}))
    on_gpus = plan(["T8:l10"], "paper", 1, tmp_path).cost
    assert on_gpus is not None
    assert (on_gpus.cpu_hours, on_gpus.basis) == (0, "the benchmark of a training step")


@pytest.mark.parametrize(
    "content",
    [
        "{", "[1]", "5", "{}", '{"benchmarks": {}}', '{"benchmarks": [1]}', "\xff",
        '{"benchmarks": [{"scale": "smoke", "work_rate": "fast"}]}',
        '{"benchmarks": [{"scale": "smoke", "work_rate": -1}]}',
        '{"benchmarks": [{"scale": 3, "work_rate": 2e9}]}',
    ],
)  # fmt: skip
def test_a_benchmark_that_is_none_tells_no_cost(content: str, tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "cpu.json").write_bytes(content.encode("latin-1"))
    assert plan(["F7:both"], "smoke", 1, tmp_path).cost is None


def test_a_scale_that_was_benchmarked_itself_is_not_told_by_the_laptops(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()  # no finished run tells more
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    entries = [{"scale": "laptop", "work_rate": 2e9}, {"scale": "gpu", "work_rate": 7e12}, {}]
    (folder / "cuda.json").write_text(json.dumps({"hardware": {}, "benchmarks": entries}))
    for scale, rate in (("gpu", 7e12), ("smoke", 2e9)):
        planned = plan(["F7:both"], scale, 1, tmp_path).cost
        done = work(load_config("F7", "both", scale))
        assert planned is not None
        assert done is not None
        assert planned.gpu_hours == pytest.approx(done / rate / 3600)


def test_nothing_to_do_costs_nothing(tmp_path: Path) -> None:
    finish(make(tmp_path, plan(["F7:both"], "smoke", 1, tmp_path).runs[0]), 10)
    planned = plan(["F7:both"], "smoke", 1, tmp_path)
    assert planned.todo == ()
    assert planned.cost is not None
    assert planned.cost.cpu_hours == 0


@pytest.mark.parametrize(
    ("words", "scale", "seeds", "message"),
    [
        (["F7"], "laptpo", 1, "unknown scale 'laptpo'; nearest: laptop"),
        (["F8"], "laptop", 1, "no experiment 'F8'"),
        (["F7"], "laptop", 0, "--seeds 0: at least 1"),
    ],
)
def test_a_plan_refuses_what_it_does_not_know(
    tmp_path: Path, words: list[str], scale: str, seeds: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(words, scale, seeds, tmp_path)


def test_a_metric_that_nothing_gives_is_refused_before_training(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repository / "experiments", tmp_path / "experiments")
    file = tmp_path / "experiments" / "F6R.yaml"
    text = file.read_text()
    assert "{key: knn," in text
    file.write_text(text.replace("{key: knn,", "{key: knn, of: knnn,"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"F6R\.yaml: row \w+: metrics: 'knnn' .* nearest: knn"):
        plan(["F6R"], "smoke", 1, tmp_path)


def test_the_metrics_that_a_training_leaves_are_those_of_the_records(repository: Path) -> None:
    file = repository / "results" / "published" / "laptop" / "records.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert {key for record in records for key in record["metrics"]} == set(TRAINING)
