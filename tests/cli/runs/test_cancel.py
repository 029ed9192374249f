"""`repro cancel`: runs are asked to stop, and jobs that only wait are taken from SLURM."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from repro.cli.parser import main
from repro.cli.runs import cancel
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.runs.states import State
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.slurm.client import QueuedTask
from repro.harness.slurm.requirements import Increase
from repro.harness.slurm.submissions import TRAIN, Array, Submission, Task
from repro.harness.status.overview import View, overview
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
    submit(plan(["F7"], "smoke", 1, results).runs, CLUSTER, results, Increase(), print)
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
    packed = structs.replace(CLUSTER, packed=2)
    submit(plan(["F7"], "smoke", 1, results).runs, packed, results, Increase(), print)
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


def view_of(queued: RunFolder, state: State, starting: bool) -> View:
    """A run whose job SLURM calls running; the detail is any sentence."""
    array = Array("repro-s1-0", TRAIN, [[queued.id]], {}, "101")
    place = queued.path.parents[1] / "submissions" / "s1"
    submission = Submission(place, time.time(), "me", "here", 1, "mine", "code", [array])
    in_queue = QueuedTask("101", "RUNNING", "None", "n7", 5.0)
    task = Task(submission, array, 0)
    return View(state, "any words", task=task, queued=in_queue, sent=True, starting=starting)


@pytest.mark.parametrize(
    ("state", "starting", "taken_back"),
    [(State.queued, False, True), (State.running, True, True), (State.running, False, False)],
)
@pytest.mark.parametrize("detail", ["job 101 starts on n7", "job 101 on n7", ""])
def test_a_job_is_taken_back_unless_it_trains_whatever_people_are_told(
    scripted: Scripted,
    queued: RunFolder,
    state: State,
    starting: bool,
    taken_back: bool,
    detail: str,
) -> None:
    view = replace(view_of(queued, state, starting), detail=detail)
    assert cancel.cancel([queued], {queued.id: view})
    assert scripted.calls("scancel") == (["101"] if taken_back else [])
    assert queued.cancel_requested()


def test_a_run_whose_worker_holds_its_folder_is_left_to_save(
    scripted: Scripted, queued: RunFolder
) -> None:
    with queued.lock():
        assert cancel.cancel([queued], {queued.id: view_of(queued, State.running, starting=True)})
    assert scripted.calls("scancel") == []
