"""Runs that no row of a file asks for any more are named, and cancelled where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.experiments.experiment import load, row_config
from repro.harness.experiments.folders import own_dir
from repro.harness.local.pool import Outcome
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.runs.store import RunFolder, create_run, find_runs
from repro.harness.slurm.requirements import Increase
from repro.harness.status.unasked import unasked
from tests.cli.calling import CLUSTER, json_of
from tests.harness.scripted import Scripted, all_waiting, scripted

__all__ = ["scripted"]

HEAD = """
id: mine
kind: table
title: Rates
where: here
question: Which rate?
layout: [{key: lr, title: lr}]
metrics: [{key: knn, title: k-NN, unit: "%", decimals: 1}]
claims: []
rows:
"""
SUBMIT = ("submit", "mine", "--scale", "smoke", "--seeds", "2")
Rates = dict[str, float]


def write(rates: Rates) -> None:
    """The file with a row a rate."""
    rows = (
        f"  - {{name: {name}, label: {name}, overrides: {{optim.lr: {rate}}}, reported: {{}}}}\n"
        for name, rate in rates.items()
    )
    own_dir().mkdir(parents=True, exist_ok=True)
    (own_dir() / "mine.yaml").write_text(HEAD + "".join(rows))


def made(results: Path, word: str = "mine", seeds: int = 2) -> list[RunFolder]:
    runs = plan([word], "smoke", seeds, results).runs
    return [create_run(results / "runs", run.slug, run.config) for run in runs]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path) -> Path:
    """Three rows, two seeds each; then b is taken out, and c changed."""
    monkeypatch.chdir(tmp_path)
    (results / "published").mkdir(parents=True)
    write({"a": 0.1, "b": 0.2, "c": 0.3})
    made(results)
    write({"a": 0.1, "c": 0.4})
    monkeypatch.setattr("repro.harness.local.pool.dispatch", lambda *_, **__: Outcome())
    return results


def by_name(results: Path) -> dict[str, RunFolder]:
    runs = [(folder.read_run(), folder) for folder in find_runs(results / "runs")]
    return {f"{run.row}{run.seed}": folder for run, folder in runs}


def cancelled(results: Path) -> set[str]:
    return {name for name, folder in by_name(results).items() if folder.cancel_requested()}


def test_plan_and_submit_name_them_and_do_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {by_name(store)[name].id for name in ("b0", "b1", "c0", "c1")}
    assert main(["plan", "mine", "--scale", "smoke"]) == 0
    planned = capsys.readouterr().out
    assert main([*SUBMIT, "--yes"]) == 0
    for out in (planned, capsys.readouterr().out):
        (line,) = (line for line in out.splitlines() if "any more" in line)
        assert line.startswith("4 runs here serve no row of mine any more: ")
        assert all(f"{name} (queued)" in line for name in gone)
        assert line.endswith(
            "; repro submit mine --scale smoke --reconcile cancels what waits or runs"
        )
    told = json_of(capsys, "plan", "mine", "--scale", "smoke")["unasked"]
    assert {one["id"] for one in told} == gone
    assert {one["state"] for one in told} == {"queued"}
    assert cancelled(store) == set()


def test_reconciling_cancels_what_waits_or_runs_and_leaves_what_is_done(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = by_name(store)
    folders["b0"].finish({"metrics": {}})
    with folders["b1"].lock():
        assert main([*SUBMIT, "--reconcile", "--yes"]) == 0
    assert cancelled(store) == {"b1", "c0", "c1"}
    assert folders["b0"].state(0) == "done"
    capsys.readouterr()
    assert main([*SUBMIT, "--reconcile", "--yes"]) == 0  # nothing is left to cancel
    out = " ".join(capsys.readouterr().out.split())
    assert f"{folders['b0'].id} (done)" in out
    assert f"{folders['c0'].id} (cancelled)" in out
    assert "repro rm removes them" in out
    assert "Cancel" not in out


@pytest.mark.usefixtures("nobody_there")
def test_reconciling_asks_before_it_cancels_even_one(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write({"a": 0.1, "b": 0.2})
    by_name(store)["c0"].finish({"metrics": {}})
    assert main([*SUBMIT, "--reconcile"]) == 2
    assert "Cancel 1 run? Nobody is there to answer: add --yes" in capsys.readouterr().err
    assert cancelled(store) == set()


def test_seeds_that_a_command_does_not_name_and_other_scales_are_no_business_of_it(
    store: Path,
) -> None:
    experiment = load("mine")
    config = row_config(experiment, experiment.row("a"), "laptop", 0)
    config.optim.lr = 7.0
    create_run(store / "runs", "mine-a-laptop-s0", config)
    names = {folder.slug for folder in unasked(["mine"], "smoke", store)}
    assert names == {f"mine-{row}-smoke-s{seed}" for row in "bc" for seed in (0, 1)}


def test_a_run_that_a_row_of_another_experiment_needs_is_not_among_them(store: Path) -> None:
    (run,) = plan(["F7:both"], "smoke", 1, store).runs
    run.config.label.experiment, run.config.label.row = "mine", "d"
    folder = create_run(store / "runs", "mine-d-smoke-s0", run.config)
    assert folder.told().experiment == "mine"
    assert folder.id not in {one.id for one in unasked(["mine"], "smoke", store)}


def test_where_another_file_cannot_be_read_nothing_is_said_of_runs_that_it_may_need(
    store: Path,
) -> None:
    assert unasked(["mine"], "smoke", store)
    (own_dir() / "other.yaml").write_text("id: other\nrows: 3\n")
    assert unasked(["mine"], "smoke", store) == []


def test_nothing_is_said_where_every_run_serves_a_row(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write({"a": 0.1, "b": 0.2, "c": 0.3})
    assert main(["plan", "mine", "--scale", "smoke"]) == 0
    assert "any more" not in capsys.readouterr().out
    assert main([*SUBMIT, "--reconcile", "--yes"]) == 0
    assert cancelled(store) == set()


def test_waiting_jobs_of_rows_that_are_gone_are_taken_from_slurm_and_no_others(
    scripted: Scripted, store: Path
) -> None:
    write({"a": 0.1, "b": 0.2, "c": 0.3})
    submit(plan(["mine"], "smoke", 2, store).runs, CLUSTER, store, Increase(), print)
    scripted.answer("squeue", all_waiting(store))
    write({"a": 0.1, "c": 0.3})
    assert main([*SUBMIT, "--reconcile", "--yes"]) == 0
    assert cancelled(store) == {"b0", "b1"}
    (call,) = scripted.calls("scancel")
    assert len({word for word in call.split() if word.startswith("101_")}) == 2
