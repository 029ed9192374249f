"""Following runs: the board, logs by attempt, cancelling, rubbish, forecasts."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from repro.cli.machine.gc import rubbish, sweep
from repro.cli.parser import main
from repro.cli.runs import cancel, run_log
from repro.errors import UserError
from repro.harness.experiments.clusters import Cluster, SlurmCluster
from repro.harness.plan.cost import Cost
from repro.harness.plan.forecast import forecast
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.runs.store import RunFolder, create_run, find_runs
from repro.harness.slurm.needs import More
from repro.harness.slurm.submissions import submissions
from repro.harness.status.overview import overview
from tests.harness.scripted import Scripted, all_waiting, option, scripted

__all__ = ["scripted"]
CLUSTER = SlurmCluster("mine", "slurm", gpus=1, cpus=4, memory_gb=16, minutes=90, parallel=2)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def make(results: Path, seeds: int = 2) -> list[RunFolder]:
    runs = plan(["F7"], "smoke", seeds, results).runs
    return [create_run(results / "runs", run.slug, run.config) for run in runs]


def test_the_board_shows_seeds_by_sign_and_failures_by_cause(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = make(results)
    folders[0].finish({"metrics": {}})
    for folder, host in ((folders[2], "n1"), (folders[3], "n2")):
        folder.fail(
            {"kind": "out_of_memory", "line": "CUDA out of memory", "host": host, "step": 1}
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
    folders[0].fail({"kind": "nan", "line": "the loss is nan", "host": "n1", "step": 7})
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
    submit(runs, CLUSTER, results, More(), print)
    (jobs,) = results.glob("submissions/*/jobs")
    (jobs / "101_0_log.out").write_text("bash: module: command not found\n")
    assert main(["logs", "F7"]) == 0
    assert "job: bash: module: command not found" in capsys.readouterr().out


def test_waiting_jobs_are_taken_from_slurm_and_running_ones_only_asked(
    scripted: Scripted, results: Path
) -> None:
    submit(plan(["F7"], "smoke", 1, results).runs, CLUSTER, results, More(), print)
    queue = all_waiting(results).replace("101|0|PENDING", "101|0|RUNNING")
    scripted.answer("squeue", queue)
    folders = find_runs(results / "runs")
    content = json.loads(next(results.glob("submissions/*/submission.json")).read_text())
    first = content["arrays"][0]["tasks"][0][0]
    (running,) = (folder for folder in folders if folder.id == first)
    with running.lock():
        views = overview(folders, results).views
        assert cancel.cancel(folders, views)
    asked = set(" ".join(scripted.calls("scancel")).split())
    assert asked == {"101_1", "101_2", "101_3"}
    assert all(folder.cancel_requested() for folder in folders)


def test_a_pack_is_taken_from_slurm_only_as_a_whole(scripted: Scripted, results: Path) -> None:
    packed = replace(CLUSTER, packed=2)
    submit(plan(["F7"], "smoke", 1, results).runs, packed, results, More(), print)
    scripted.answer("squeue", all_waiting(results))
    folders = {folder.id: folder for folder in find_runs(results / "runs")}
    content = json.loads(next(results.glob("submissions/*/submission.json")).read_text())
    (first, second), third = (
        content["arrays"][0]["tasks"][0],
        content["arrays"][0]["tasks"][1][0],
    )
    chosen = [folders[name] for name in (first, second, third)]
    cancel.cancel(chosen, overview(list(folders.values()), results).views)
    assert " ".join(scripted.calls("scancel")) == "101_0"


def test_an_evaluation_that_failed_is_on_the_board_in_the_logs_and_retried_by_its_cause(
    scripted: Scripted, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("{kind: slurm, gpus: 1, cpus: 4, memory_gb: 16, minutes: 90}")
    assert main(["submit", "F7:both", "--scale", "smoke", "--cluster", str(profile), "--yes"]) == 0
    (sent,) = submissions(results)
    sent.created -= 3600
    sent.save()
    (folder,) = find_runs(results / "runs")
    folder.finish({"metrics": {}})
    (folder.path / "checkpoints" / "last.pt").touch()
    (sent.folder / "jobs" / "102_0_log.out").write_text("evaluating knn\n")
    scripted.answer("sacct", f"102|OUT_OF_MEMORY|0:125|n7|{sent.arrays[1].name}\n")

    capsys.readouterr()
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "1 x out of memory (--only oom) on n7: evaluation: SLURM: OUT_OF_MEMORY" in out
    assert "1 done, 1 evaluation failed" in out
    assert main(["logs"]) == 0
    assert "job: evaluating knn" in capsys.readouterr().out
    assert main(["retry", "--only", "timeout", "--yes"]) == 0
    assert len(scripted.scripts) == 2
    assert main(["retry", "--only", "oom", "--mem", "+50%", "--yes"]) == 0
    assert option(scripted.scripts[2], "mem") == "24576M"


def test_cancelling_many_asks_first(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    folders = make(results, seeds=1)
    assert main(["cancel", "F7"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert main(["cancel", folders[0].id]) == 0  # one run is meant as it stands
    assert [folder.cancel_requested() for folder in folders] == [True, False, False, False]


def test_rubbish_is_what_finished_submissions_left_and_run_folders_stay(
    scripted: Scripted, results: Path
) -> None:
    submit(plan(["F7:both"], "smoke", 1, results).runs, CLUSTER, results, More(), print)
    assert rubbish(results) == []
    (folder,) = find_runs(results / "runs")
    folder.finish({"metrics": {}})
    found = rubbish(results)
    assert {item.path.parent.name for item in found} == {"submissions", "code"}
    sweep(found)
    assert folder.result() is not None
    assert rubbish(results) == []
    assert main(["gc", "--dry-run"]) == 0


def test_a_forecast_counts_jobs_hours_and_disk(tmp_path: Path) -> None:
    planned = plan(["F7"], "smoke", 2, tmp_path)
    planned = replace(planned, cost=Cost(cpu_hours=0, gpu_hours=8, basis="test", disk=4 * 10**9))
    expected = forecast(planned, replace(CLUSTER, packed=2), tmp_path, None)
    assert expected.jobs == 4 + 4  # trainings, each with its evaluation
    assert (expected.at_a_time, expected.wall_hours) == (4, 2.0)
    assert (expected.hours, expected.unit, expected.disk_gb) == (8, "GPU", 4.0)
    ranks = replace(CLUSTER, resources={"ranks": 2})
    assert forecast(planned, ranks, tmp_path, None).wall_hours == 2.0  # two runs of two GPUs
    here = forecast(planned, Cluster("local", "local"), tmp_path, 3)
    assert (here.jobs, here.at_a_time) == (8, 3)
