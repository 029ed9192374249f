"""`repro cancel`: runs are asked to stop, and jobs that only wait are taken from SLURM."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.cli.runs import cancel
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.slurm.needs import More
from repro.harness.status.overview import overview
from tests.cli.calling import CLUSTER, json_of, make
from tests.harness.scripted import Scripted, all_waiting, scripted

__all__ = ["scripted"]


def test_a_queued_run_can_be_cancelled_and_is_then_offered_for_retry(
    queued: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retry"]) == 0
    assert "nothing to retry" in capsys.readouterr().out
    assert main(["cancel", "F7"]) == 0
    assert queued.path.name in capsys.readouterr().out
    assert json_of(capsys, "status")["runs"][0]["state"] == "cancelled"
    assert main(["cancel"]) == 0
    assert "nothing to cancel" in capsys.readouterr().out


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


def test_cancelling_many_asks_first(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    folders = make(results, seeds=1)
    assert main(["cancel", "F7"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert main(["cancel", folders[0].id]) == 0  # one run is meant as it stands
    assert [folder.cancel_requested() for folder in folders] == [True, False, False, False]
