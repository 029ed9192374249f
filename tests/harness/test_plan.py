"""Plans: every run once, what is done is not done again, and nothing is started or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repro.errors import UserError
from repro.harness.files import write_json
from repro.harness.plan import Plan, PlannedRun, plan
from repro.harness.store import RunFolder, create_run


def make(results: Path, run: PlannedRun) -> RunFolder:
    return create_run(results / "runs", run.slug, run.config)


def finish(
    folder: RunFolder, wall_seconds: float, threads: int = 2, gpu: str | None = None
) -> None:
    hardware = {"threads": threads, "gpu": gpu}
    write_json(folder.path / "env.json", {"hardware": hardware})
    folder.finish({"wall_seconds": wall_seconds, "metrics": {}})


def by_cell(planned: Plan) -> dict[tuple[str, str, int], PlannedRun]:
    return {(e, r, run.seed): run for run in planned.runs for e, r in run.cells}


def test_rows_that_are_the_same_run_are_planned_once_and_keep_all_their_cells(
    tmp_path: Path,
) -> None:
    planned = plan(["T7:r1,r2", "F7:both", "F6R:student_copy,momentum"], "laptop", 1, tmp_path)
    assert [run.cells for run in planned.runs] == [
        (("T7", "r1"), ("F7", "both"), ("F6R", "momentum")),
        (("T7", "r2"), ("F6R", "student_copy")),
    ]
    assert [run.slug for run in planned.runs] == ["T7-r1-laptop-s0", "T7-r2-laptop-s0"]
    assert planned.runs[0].config.label.experiment == "T7"


def test_rows_without_a_run_are_listed_with_the_reason_never_dropped(tmp_path: Path) -> None:
    planned = plan(["T7", "F5"], "smoke", 1, tmp_path)
    reasons = {(e, r): why for e, r, why in planned.skipped}
    assert reasons["T7", "r3"] == "not implemented yet: target by Sinkhorn-Knopp"
    assert reasons["F5", "b16"] == "only at scale paper"
    assert {r for e, r in reasons if e == "T7"} | {
        r for e, r, _ in by_cell(planned) if e == "T7"
    } == {f"r{i}" for i in range(1, 10)}


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
    make(tmp_path, failed).fail({"kind": "nan", "line": "not finite", "step": 1})
    with make(tmp_path, running).lock():
        planned = plan(["F7"], "smoke", 1, tmp_path)
        assert [run.state for run in planned.runs] == ["done", "failed", "running", "new"]
        assert [run.id for run in planned.todo] == [failed.id, new.id]


def test_a_run_made_for_one_table_is_done_for_another(tmp_path: Path) -> None:
    finish(make(tmp_path, plan(["F7:both"], "smoke", 1, tmp_path).runs[0]), 10)
    (shared,) = plan(["T7:r1"], "smoke", 1, tmp_path).runs
    assert (shared.state, shared.slug, shared.row) == ("done", "F7-both-smoke-s0", "r1")


def test_the_cost_is_unknown_until_a_run_of_this_scale_has_finished(tmp_path: Path) -> None:
    finish(make(tmp_path, plan(["F7:both"], "laptop", 1, tmp_path).runs[0]), 10)
    assert plan(["F7"], "smoke", 1, tmp_path).cost is None


@pytest.mark.parametrize("gpu", [None, "NVIDIA H200"])
def test_the_cost_is_the_median_of_finished_runs_of_this_experiment(
    tmp_path: Path, gpu: str | None
) -> None:
    runs = plan(["F7"], "smoke", 2, tmp_path).runs
    for run, seconds in zip(runs, (360, 720, 36000), strict=False):
        finish(make(tmp_path, run), seconds, threads=3, gpu=gpu)
    other = plan(["T7:r4"], "smoke", 1, tmp_path).runs[0]
    finish(make(tmp_path, other), 1e6, gpu=gpu)
    cost = plan(["F7"], "smoke", 2, tmp_path).cost
    assert cost is not None
    assert cost.cpu_hours == pytest.approx(5 * 0.2 * 3)
    assert cost.gpu_hours == pytest.approx(5 * 0.2 if gpu else 0)
    assert cost.basis == 3


def test_published_records_tell_the_cost_but_do_not_make_a_run_done(tmp_path: Path) -> None:
    (run,) = plan(["F7:both"], "smoke", 1, tmp_path).runs
    published: dict[str, Any] = {
        "id": run.id,
        "slug": run.slug,
        "times": {"wall_seconds": 1800},
        "env": {"hardware": {"threads": 2, "gpu": None}},
    }
    file = tmp_path / "published" / "smoke" / "records.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(published) + "\n")
    planned = plan(["F7:both"], "smoke", 1, tmp_path)
    assert planned.runs[0].state == "new"
    assert planned.cost is not None
    assert planned.cost.cpu_hours == 1


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
