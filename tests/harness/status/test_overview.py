"""How runs are: what the files say, what SLURM may add, and what it may not."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.slurm.submissions import TRAIN, Array, submissions
from repro.harness.status.find import describe
from repro.harness.status.overview import overview
from tests.conftest import MakeConfig
from tests.harness.scripted import Scripted, scripted
from tests.harness.sent import Sent, ended, queued, sent

__all__ = ["scripted", "sent"]


def test_without_submissions_slurm_is_never_asked(
    scripted: Scripted, tmp_path: Path, smoke: MakeConfig
) -> None:
    folder = create_run(tmp_path / "runs", "one", smoke())
    assert overview([folder], tmp_path).views[folder.id].state == "queued"
    assert scripted.calls("squeue") == scripted.calls("sacct") == []


def test_a_waiting_job_is_queued_with_the_reason_and_has_the_run(
    scripted: Scripted, sent: Sent
) -> None:
    scripted.answer("squeue", queued("PENDING", "Priority"))
    view = sent.view()
    assert (view.state, view.detail, view.sent) == ("queued", "job 101: others go first", True)
    assert scripted.calls("sacct") == []


def test_a_starting_job_is_running_before_its_worker_is(scripted: Scripted, sent: Sent) -> None:
    scripted.answer("squeue", queued("RUNNING", age="0:05"))
    assert (sent.view().state, sent.view().detail) == ("running", "job 101 starts on n7")
    assert sent.view().starting


def test_a_result_makes_a_run_done_whatever_slurm_says(scripted: Scripted, sent: Sent) -> None:
    sent.folder.finish({"metrics": {}})
    scripted.answer("squeue", queued("PENDING"))
    scripted.answer("sacct", ended("FAILED", "1:0"))
    assert sent.view().state == "done"


def test_a_fresh_heartbeat_makes_a_run_running_whatever_slurm_says(
    scripted: Scripted, sent: Sent
) -> None:
    sent.running_elsewhere(heartbeat_ago=3)
    scripted.answer("sacct", ended("NODE_FAIL"))
    view = sent.view()
    assert (view.state, view.sent, view.starting) == ("running", True, False)
    assert scripted.calls("sacct") == []


def test_a_run_whose_step_stands_still_is_said_to(scripted: Scripted, sent: Sent) -> None:
    """A rank that waits for ever for another one has a heartbeat, too."""
    sent.running_elsewhere(heartbeat_ago=3)
    scripted.answer("squeue", queued("RUNNING", age="2:00:00"))
    assert "no step" not in sent.view().detail  # of this start nothing is to be expected yet
    metrics = sent.folder.path / "metrics.jsonl"
    metrics.write_text('{"step": 7}\n')
    long_ago = time.time() - 40 * 60
    os.utime(metrics, (long_ago, long_ago))
    sent.folder.update_run(started=long_ago - 60)
    view = sent.view()
    assert view.state == "running"
    assert view.detail.startswith(
        "no step for 40 min: it evaluates, or hangs (repro logs); job 101"
    )
    os.utime(metrics)
    assert "no step" not in sent.view().detail


def test_a_heart_that_stopped_is_lost_although_slurm_says_running(
    scripted: Scripted, sent: Sent
) -> None:
    sent.running_elsewhere(heartbeat_ago=200)
    scripted.answer("squeue", queued("RUNNING", age="10:00"))
    view = sent.view()
    assert view.state == "lost"
    assert "still says RUNNING on n7" in view.detail


def test_a_job_that_starts_again_is_not_lost_by_its_old_heartbeat(
    scripted: Scripted, sent: Sent
) -> None:
    sent.running_elsewhere(heartbeat_ago=200)
    scripted.answer("squeue", queued("RUNNING", age="0:10"))
    view = sent.view()
    assert (view.state, view.detail) == ("running", "job 101 starts on n7, start 2")
    scripted.answer("squeue", queued("PENDING", "BeginTime"))
    assert (sent.view().state, sent.view().detail) == (
        "queued",
        "job 101: SLURM delays its restart, start 2",
    )


@pytest.mark.parametrize(
    ("state", "code", "kind"),
    [
        ("OUT_OF_MEMORY", "0:125", "out_of_memory"),
        ("TIMEOUT", "0:0", "timeout"),
        ("NODE_FAIL", "1:0", "node"),
        ("PREEMPTED", "0:0", "preempted"),
        ("FAILED", "0:9", "killed"),
        ("FAILED", "3:0", "unknown"),
    ],
)
def test_the_accounting_tells_how_a_run_without_a_word_ended(
    scripted: Scripted, sent: Sent, state: str, code: str, kind: str
) -> None:
    sent.running_elsewhere(heartbeat_ago=200)
    scripted.answer("sacct", ended(state, code))
    view = sent.view()
    assert view.state == "lost"
    assert view.cause is not None
    assert (view.cause.kind, view.cause.host) == (kind, "n7")


def test_a_run_that_failed_in_a_pack_has_failed_while_its_job_goes_on(
    scripted: Scripted, sent: Sent
) -> None:
    sent.running_elsewhere(heartbeat_ago=30, started_ago=50)
    sent.folder.fail(Failure(FailureKind.nan, line="the loss is nan", host="n7", step=4))
    scripted.answer("squeue", queued("RUNNING", age="1:00"))
    view = sent.view()
    assert (view.state, view.sent) == ("failed", False)  # it may be retried at once


def test_a_run_that_saved_comes_back_with_its_job(scripted: Scripted, sent: Sent) -> None:
    sent.folder.update_run(state="interrupted", ended=time.time())
    scripted.answer("squeue", queued("COMPLETING", age="5:00"))
    view = sent.view()
    assert (view.state, view.sent) == ("interrupted", True)
    scripted.answer("squeue", queued("RUNNING", age="0:00"))
    sent.folder.update_run(ended=time.time() - 60)
    assert sent.view().state == "running"


@pytest.mark.parametrize("file_state", ["queued", "interrupted", "running"])
def test_scancel_is_cancelled_whether_the_run_had_begun_or_not(
    scripted: Scripted, sent: Sent, file_state: str
) -> None:
    if file_state != "queued":
        sent.running_elsewhere(heartbeat_ago=200)
    sent.folder.update_run(state=file_state, ended=time.time())
    scripted.answer("sacct", ended("CANCELLED by 1000"))
    assert sent.view().state == "cancelled"


def test_the_log_tells_what_the_accounting_cannot(scripted: Scripted, sent: Sent) -> None:
    sent.running_elsewhere(heartbeat_ago=200)
    scripted.answer("sacct", code=1)
    sent.write_log(
        "submitit INFO - Starting with JobEnvironment(job_id=101)\n"
        "slurmstepd: error: *** STEP 101.0 ON n7 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***\n"
        "submitit INFO - Starting with JobEnvironment(job_id=101)\n"
        "slurmstepd: error: StepId=101.0 exceeded memory limit (9 > 8), being killed\n"
        "slurmstepd: error: *** STEP 101.0 ON n7 CANCELLED AT 2026-01-02 ***\n"
    )
    view = sent.view()
    assert view.cause is not None
    assert view.cause.kind == "out_of_memory"  # of the last start, not of the first
    assert "accounting does not answer" in sent.notes()


def test_a_slow_or_dead_slurm_leaves_what_the_files_say(
    scripted: Scripted, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.harness.slurm.client.SECONDS", 0.2)
    monkeypatch.setattr(
        "repro.harness.slurm.client.ask.__kwdefaults__", {"patience": 0.2, "cluster": ""}
    )
    scripted.answer("squeue", queued("PENDING"), seconds=5)
    begun = time.monotonic()
    view = sent.view()
    assert time.monotonic() - begun < 3
    assert (view.state, view.sent) == ("queued", True)
    assert "queue does not answer" in sent.notes()
    sent.running_elsewhere(heartbeat_ago=200)
    assert sent.view().state == "lost"


def test_a_number_that_slurm_uses_again_is_not_ours(scripted: Scripted, sent: Sent) -> None:
    scripted.answer("squeue", queued("RUNNING", name="somebody-else"))
    scripted.answer("sacct", ended("COMPLETED", name="repro-s0-0"))
    view = sent.view()
    assert view.state == "lost"
    assert not view.sent


def test_a_forgotten_task_is_lost_but_not_before_the_queue_can_know_it(
    scripted: Scripted, tmp_path: Path, smoke: MakeConfig
) -> None:
    old = Sent(tmp_path / "old", smoke())
    assert old.view().state == "lost"
    assert old.view().cause is not None
    young = Sent(tmp_path / "young", smoke(), sent_ago=5)
    assert (young.view().state, young.view().sent) == ("queued", True)


def test_ranges_of_an_array_are_its_tasks(
    scripted: Scripted, sent: Sent, smoke: MakeConfig
) -> None:
    others = [
        create_run(sent.results / "runs", f"n{seed}", smoke({"seed": seed})) for seed in (1, 2, 3)
    ]
    sent.submission.arrays[0].tasks = [[sent.folder.id], *([f.id] for f in others)]
    sent.submission.save()
    scripted.answer(
        "sacct", ended("CANCELLED by 0", job="101_[0,2-3%4]") + ended("FAILED", "2:0", job="101_1")
    )
    views = overview([sent.folder, *others], sent.results).views
    assert views[sent.folder.id].state == "cancelled"
    assert [views[f.id].state for f in others] == ["lost", "cancelled", "cancelled"]


def test_one_question_to_each_of_queue_and_accounting_for_all_runs(
    scripted: Scripted, tmp_path: Path, smoke: MakeConfig
) -> None:
    results = tmp_path / "results"
    first = Sent(results, smoke())
    folders = [first.folder]
    for number in range(2, 6):
        folder = create_run(results / "runs", f"n{number}", smoke({"seed": number}))
        folders.append(folder)
        place = results / "submissions" / f"s{number}"
        place.mkdir()
        array = Array(f"repro-s{number}-0", TRAIN, [[folder.id]], {}, str(100 * number))
        replace(first.submission, folder=place, arrays=[array]).save()
    overview(folders, results)
    assert len(scripted.calls("squeue")) == len(scripted.calls("sacct")) == 1
    assert "repro-s2-0" in scripted.calls("sacct")[0]


def test_a_submission_that_was_cut_off_finds_its_jobs_by_name_and_offers_the_rest(
    scripted: Scripted, sent: Sent, smoke: MakeConfig
) -> None:
    other = create_run(sent.results / "runs", "two", smoke({"seed": 1}))
    dead = replace(sent.submission, complete=False, pid=2**22 + 1)  # no such process
    dead.arrays[0].job = None
    dead.arrays[1] = Array("repro-s1-1", TRAIN, [[other.id]], {}, None)
    dead.save()
    scripted.answer("squeue", queued("PENDING", "Priority"))
    seen = overview([sent.folder, other], sent.results)
    orphan, unsent = seen.views[sent.folder.id], seen.views[other.id]
    assert (orphan.state, orphan.detail, orphan.sent) == (
        "queued",
        "job 101: others go first",
        True,
    )
    assert (unsent.state, unsent.sent) == ("queued", False)
    assert "cut off" in unsent.detail
    assert "was cut off" in " ".join(seen.notes)


def test_a_failed_run_keeps_its_cause_until_its_retry_is_under_way(
    scripted: Scripted, sent: Sent
) -> None:
    sent.folder.fail(Failure(FailureKind.nan, line="the loss is nan", host="n7", step=4))
    view = sent.view()
    assert view.state == "failed"
    assert view.cause is not None
    assert view.cause.kind == "nan"
    later = replace(sent.submission, folder=sent.submission.folder.with_name("s2"))
    later.folder.mkdir()
    later.created = time.time() + 1
    later.arrays = [Array("repro-s2-0", TRAIN, [[sent.folder.id]], {}, "201")]
    later.save()
    scripted.answer("squeue", "201|N/A|PENDING|Priority||0:00|repro-s2-0\n")
    assert (sent.view().state, sent.view().detail) == ("queued", "job 201: others go first")
    assert [s.id for s in submissions(sent.results)] == ["s1", "s2"]


def test_a_run_of_this_machine_needs_no_slurm(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path / "runs", "one", smoke())
    with folder.lock():
        assert overview([folder], tmp_path).views[folder.id].state == "running"
    assert isinstance(folder, RunFolder)


def test_a_diverged_run_is_nan_in_its_status(tmp_path: Path, smoke: MakeConfig) -> None:
    """The step that is not finite ends a run before it is logged; the one before looked healthy."""
    folder = create_run(tmp_path / "runs", "one", smoke())
    folder.append_metrics([{"kind": "step", "step": 3, "epoch": 0.75, "sentinel": "healthy"}])
    folder.fail(Failure(FailureKind.nan, "Diverged: the loss is nan at step 4", step=4))
    told = describe(folder, overview([folder], tmp_path).views[folder.id])
    assert (told["state"], told["kind"], told["sentinel"]) == ("failed", "nan", "nan")
