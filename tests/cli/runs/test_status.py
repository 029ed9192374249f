"""`repro status`: which runs a pattern means, the board, a line a run, watching."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.plan.plan import plan
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import RunFolder, create_run
from tests.cli.calling import json_of, make


def test_status_has_its_fixed_shape(queued: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = json_of(capsys, "status")["runs"]
    expected = {"id": queued.id, "experiment": "F7", "row": "both", "seed": 0, "state": "queued"}
    assert expected | {"step": 0, "cause": None} == {
        k: run[k] for k in (*expected, "step", "cause")
    }


@pytest.mark.parametrize("pattern", ["F7", "F7:both", "T7:r1", "queued", "F7-*-s0", "all-of-id"])
def test_a_pattern_finds_a_run_by_any_of_its_names(
    queued: RunFolder, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    word = queued.id[:4] if pattern == "all-of-id" else pattern
    assert [run["id"] for run in json_of(capsys, "status", word)["runs"]] == [queued.id]
    assert json_of(capsys, "status", "T7:r2", "done")["runs"] == []


def test_the_row_of_a_table_with_variants_finds_the_run_of_each(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [
        create_run(results / "runs", run.slug, run.config)
        for run in plan(["T8:l2"], "smoke", 1, results).runs
    ]
    assert len(folders) == 2
    found = json_of(capsys, "status", "T8:l2")["runs"]
    assert {run["id"] for run in found} == {folder.id for folder in folders}


def test_the_board_shows_seeds_by_sign_and_failures_by_cause(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = make(results)
    folders[0].finish({"metrics": {}})
    for folder, host in ((folders[2], "n1"), (folders[3], "n2")):
        folder.fail(
            Failure(FailureKind.out_of_memory, line="CUDA out of memory", host=host, step=1)
        )
    assert main(["status", "F7"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "Target entropy and KL during training" in out
    assert "█░" in lines["both"]
    assert "1/2" in lines["both"]
    assert "✗✗" in lines["centering"]
    assert "2 x out of memory (--only oom) on n1, n2: CUDA out of memory" in out
    assert "repro retry --only oom --mem +50%" in out
    assert "1 done" in out
    assert "5 queued" in out
    assert "2 failed" in out


def test_a_line_a_run_on_request(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = make(results, seeds=1)
    folders[0].fail(Failure(FailureKind.nan, line="the loss is nan", host="n1", step=7))
    assert main(["status", "--runs"]) == 0
    out = capsys.readouterr().out
    assert all(folder.id in out for folder in folders)
    assert "the loss is nan (step 7)" in out


def test_watching_ends_when_nothing_is_queued_or_running(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder, *_) = make(results, seeds=1)
    ended = threading.Event()

    def work() -> None:
        with folder.lock():
            time.sleep(1.0)
            folder.finish({"metrics": {}})
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not folder.is_locked() and not ended.is_set():
        time.sleep(0.01)
    assert main(["status", folder.id, "--watch", "--every", "0.2"]) == 0
    assert ended.wait(5)
    thread.join()
    out = capsys.readouterr().out
    assert "1 running" in out
    assert out.rstrip().endswith("1 done")
