"""`repro logs`: the end, by attempt, as they grow, and what a job said that never began."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.cli.runs import run_log
from repro.errors import UserError
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import RunFolder
from repro.harness.slurm.requirements import Increase
from repro.harness.status.overview import overview
from tests.cli.calling import CLUSTER, make
from tests.harness.scripted import Scripted, scripted

__all__ = ["scripted"]


def test_the_log_of_a_failed_run_begins_with_what_failed_it(
    queued: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (queued.path / "log.txt").write_text("".join(f"line {i}\n" for i in range(100)))
    queued.fail(Failure(FailureKind.nan, line="the loss is not finite", step=42))
    assert main(["logs", "failed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"== {queued.path.name} (failed)"
    assert "the loss is not finite (step 42)" in lines[1]
    assert lines[-1] == "line 99"


def test_logs_are_told_apart_by_attempt(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder, *_) = make(results, seeds=1)
    text = "".join(f"=== attempt {n}, today, host ===\nfirst of {n}\nlast of {n}\n" for n in (1, 2))
    (folder.path / "log.txt").write_text(text)
    assert main(["logs", folder.id, "--attempt", "1"]) == 0
    out = capsys.readouterr().out
    assert "last of 1" in out
    assert "of 2" not in out
    assert main(["logs", folder.id, "--lines", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["last of 2"]
    view = overview([folder], results).views[folder.id]
    with pytest.raises(UserError, match=r"--attempt 3: .* holds the attempts 1, 2"):
        run_log.print_log(folder, view, 20, 3)


@pytest.mark.slow
def test_a_log_is_followed_to_its_end_without_a_line_lost_or_doubled(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder, *_) = make(results, seeds=1)
    log = folder.path / "log.txt"
    log.write_text("line 0\n")
    started = threading.Event()

    def work() -> None:
        with folder.lock():
            started.set()
            for number in range(1, 6):
                time.sleep(0.3)
                with log.open("a") as file:
                    file.write(f"line {number}\n")
            folder.finish({"metrics": {}})

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    run_log.follow([folder], results, 20)
    thread.join()
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if line.startswith("line")] == [f"line {n}" for n in range(6)]
    assert out[-1].endswith("(done)")


def test_a_job_that_never_began_shows_what_the_job_said(
    scripted: Scripted, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = plan(["F7:both"], "smoke", 1, results).runs
    submit(runs, CLUSTER, results, Increase(), print)
    (jobs,) = results.glob("submissions/*/jobs")
    (jobs / "101_0_log.out").write_text("bash: module: command not found\n")
    assert main(["logs", "F7"]) == 0
    assert "job: bash: module: command not found" in capsys.readouterr().out
