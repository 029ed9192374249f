"""`repro gc` takes what nobody needs, and never a run, nor what a job still needs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from repro.cli.machine.gc import SETTLED, look, sweep
from repro.cli.parser import main
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.slurm.requirements import Increase
from repro.harness.slurm.submissions import submissions
from repro.locks import hold
from tests.cli.calling import CLUSTER
from tests.harness.scripted import Scripted, all_waiting, scripted

__all__ = ["scripted"]


@pytest.fixture
def finished(scripted: Scripted, results: Path) -> RunFolder:
    """A run that was sent to SLURM and done long ago."""
    submit(plan(["F7:both"], "smoke", 1, results).runs, CLUSTER, results, Increase(), print)
    (folder,) = find_runs(results / "runs")
    assert look(results).items == []
    folder.finish({"metrics": {}})
    age(results, folder, 2 * SETTLED)
    return folder


def age(results: Path, folder: RunFolder, seconds: float) -> None:
    """As if everything had happened so much earlier."""
    ended = folder.read_run().ended
    assert ended is not None
    folder.update_run(ended=ended - seconds)
    (submission,) = submissions(results)
    submission.created -= seconds
    submission.save()


def test_rubbish_is_what_finished_submissions_left_and_run_folders_stay(
    finished: RunFolder, results: Path
) -> None:
    items = look(results).items
    assert {item.path.parent.name for item in items} == {"submissions", "code"}
    sweep(items, results)
    assert finished.result() is not None
    assert look(results).items == []
    assert main(["gc", "--dry-run"]) == 0


def test_what_an_evaluation_needs_that_waits_or_runs_stays(
    scripted: Scripted, finished: RunFolder, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = all_waiting(results).splitlines()[1]
    (results / "features").mkdir()
    for state in ("PENDING", "RUNNING", "COMPLETING"):
        scripted.answer("squeue", evaluation.replace("PENDING", state) + "\n")
        assert main(["gc", "--yes"]) == 0
        assert "kept: 1 submission: some of its jobs wait or run" in capsys.readouterr().out
    assert len(submissions(results)) == 1
    assert Path(submissions(results)[0].code).is_dir()
    assert (results / "features").is_dir()
    scripted.answer("squeue")
    assert main(["gc", "--yes"]) == 0
    assert not (results / "features").is_dir()


def test_what_slurm_does_not_tell_of_stays(
    scripted: Scripted, finished: RunFolder, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.answer("squeue", code=1)
    assert main(["gc", "--yes"]) == 0
    assert "kept: 1 submission: SLURM's queue does not answer" in capsys.readouterr().out
    scripted.answer("squeue")
    (submission,) = submissions(results)
    submission.slurm_cluster = "annex"
    submission.user = "ann"
    submission.save()
    assert main(["gc", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "its jobs are not visible from here (sent by ann on annex)" in said
    assert len(submissions(results)) == 1


def test_what_was_done_only_hours_ago_stays(finished: RunFolder, results: Path) -> None:
    age(results, finished, -1.5 * SETTLED)
    found = look(results)
    assert found.items == []
    assert list(found.kept.values()) == ["done or sent less than 6 hours ago"]


def test_nothing_goes_that_a_new_submission_needs_by_the_time_of_the_answer(
    scripted: Scripted, finished: RunFolder, results: Path
) -> None:
    items = look(results).items
    submit(plan(["F7:neither"], "smoke", 1, results).runs, CLUSTER, results, Increase(), print)
    sweep(items, results)
    assert [Path(submission.code).is_dir() for submission in submissions(results)] == [True]


def test_what_killed_processes_had_begun_goes_after_a_day(
    finished: RunFolder, results: Path
) -> None:
    begun = [
        finished.path / ".run.json.4711",
        finished.path / "checkpoints" / "unfinished.pt",
        results / "runs" / ".new-0123456789abcdef",
        results / "code" / ".new-0123456789abcdef",
    ]
    for path in begun[:2]:
        path.write_text("torn")
    for path in begun[2:]:
        path.mkdir()
    assert not {item.path for item in look(results).items} & set(begun)
    for path in begun:
        os.utime(path, (0, 0))
    assert main(["gc", "--yes"]) == 0
    assert not any(path.exists() for path in begun)
    assert finished.result() is not None


def test_what_a_link_leads_to_stays_but_for_features(
    finished: RunFolder, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("code", "features"):
        (elsewhere / name / "inside").mkdir(parents=True)
    (results / "code" / "0123456789ab").symlink_to(elsewhere / "code")
    (results / "features").symlink_to(elsewhere / "features")
    assert main(["gc", "--yes"]) == 0
    assert not (results / "code" / "0123456789ab").exists()
    assert (elsewhere / "code" / "inside").is_dir()
    assert (results / "features").is_dir()
    assert list((elsewhere / "features").iterdir()) == []
    assert main(["gc", "--yes"]) == 0
    assert "0 items" in capsys.readouterr().out


def test_features_stay_while_somebody_makes_or_evaluates_some(
    finished: RunFolder, results: Path
) -> None:
    (results / "features").mkdir()
    (results / "features" / "one.npy").touch()
    for lock in (results / "features" / "one.lock", finished.path / "lock"):
        with hold(lock, "busy"):
            assert results / "features" not in {item.path for item in look(results).items}
    assert results / "features" in {item.path for item in look(results).items}


def test_of_two_at_once_each_thing_goes_once(finished: RunFolder, results: Path) -> None:
    items = look(results).items
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: sweep(items, results), range(2)))
    assert look(results).items == []


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"created": 1', b"\xff"])
def test_a_submission_that_cannot_be_read_is_named_and_all_code_stays(
    content: bytes, finished: RunFolder, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (submission,) = submissions(results)
    (submission.folder / "submission.json").write_bytes(content)
    assert main(["gc", "--yes"]) == 0
    assert "it cannot be read, so all code stays" in capsys.readouterr().out
    assert Path(submission.code).is_dir()
    assert submission.folder.is_dir()
    for command in (["status"], ["plan", "F7:both", "--scale", "smoke"], ["list"]):
        assert main(command) == 0
        said = capsys.readouterr()
        if command == ["status"]:
            assert "submission.json: " in said.out + said.err
