"""When a warned job asks for another start, and when it stops for good and says why."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from repro.harness.evaluation import stage as evaluation
from repro.harness.runs import variables
from repro.harness.runs.failures import FailureKind
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.slurm import job, restart
from tests.conftest import MakeConfig
from tests.harness.scripted import Scripted, scripted

__all__ = ["scripted"]

WARNED, ENDED = [signal.SIGUSR2], [signal.SIGTERM]
TAKEN = "JobId=7 PreemptEligibleTime=2026-11-28T02:58:03 PreemptTime=2026-11-28T02:58:08\n"
NOT_TAKEN = "JobId=7 PreemptEligibleTime=2026-11-28T02:58:03 PreemptTime=None\n"


@pytest.fixture
def folder(tmp_path: Path, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run in job 7, which was warned 30 s before its end."""
    for name, value in {"SLURM_JOB_ID": "7", "REPRO_WARNING": "30", "REPRO_REQUEUES": "5"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return create_run(tmp_path / "runs", "one", smoke())


def at_step(folder: RunFolder, step: int) -> None:
    folder.append_metrics([{"kind": "step", "step": step}])


def requeued(folder: RunFolder) -> list[dict[str, Any]]:
    text = (folder.path / "events.jsonl").read_text()
    return [e for e in map(json.loads, text.splitlines()) if e["event"] == "requeued"]


@pytest.mark.parametrize(
    ("left", "told", "reason"),
    [
        ("0:25", NOT_TAKEN, "its time limit is near"),
        ("0:25", TAKEN, "preempted"),
        ("2:00:00", NOT_TAKEN, "preempted"),
        ("", "", "preempted"),
    ],
)
def test_a_warned_job_asks_for_another_start_and_says_why(
    scripted: Scripted, folder: RunFolder, left: str, told: str, reason: str
) -> None:
    scripted.answer("squeue", left)
    scripted.answer("scontrol", told)
    at_step(folder, 12)
    assert restart.after_a_stop([folder], WARNED) == variables.ASKS_FOR_A_START
    (event,) = requeued(folder)
    assert (event["reason"], event["start"], event["step"]) == (reason, 1, 12)
    assert folder.failure() is None


def test_a_job_that_slurm_ends_asks_for_nothing(folder: RunFolder) -> None:
    """Where it is preempted without a warning, its script stays until SLURM ends it."""
    assert restart.after_a_stop([folder], ENDED) == 1
    assert folder.failure() is None


@pytest.mark.usefixtures("scripted")
def test_three_starts_without_progress_are_enough(folder: RunFolder) -> None:
    at_step(folder, 4)
    for _ in range(2):
        assert restart.after_a_stop([folder], WARNED) == variables.ASKS_FOR_A_START
    assert restart.after_a_stop([folder], WARNED) == 1
    failure = folder.failure()
    assert failure is not None
    assert (failure.kind, failure.step) == (FailureKind.preempted, 4)
    assert "for the 3rd time at the same step" in failure.line


@pytest.mark.usefixtures("scripted")
def test_progress_in_any_of_three_starts_and_other_jobs_do_not_count_against_it(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (4, 4, 5, 5):
        at_step(folder, step)
        assert restart.after_a_stop([folder], WARNED) == variables.ASKS_FOR_A_START
    monkeypatch.setenv("SLURM_JOB_ID", "8")  # of a retry
    assert restart.after_a_stop([folder], WARNED) == variables.ASKS_FOR_A_START


@pytest.mark.usefixtures("scripted")
def test_no_more_starts_than_the_profile_allows(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "5")
    assert restart.after_a_stop([folder], WARNED) == 1
    failure = folder.failure()
    assert failure is not None
    assert failure.line.startswith("preempted after 6 start(s), and no more are allowed")


@pytest.mark.parametrize(
    ("left", "progress", "code", "kind"),
    [
        ("0:25", False, 1, FailureKind.timeout),
        ("0:25", True, variables.ASKS_FOR_A_START, None),
        ("2:00:00", False, variables.ASKS_FOR_A_START, None),
    ],
)
def test_an_evaluation_is_given_up_only_where_its_limit_would_stop_it_again(
    scripted: Scripted,
    folder: RunFolder,
    left: str,
    progress: bool,
    code: int,
    kind: FailureKind | None,
) -> None:
    scripted.answer("squeue", left)
    scripted.answer("scontrol", NOT_TAKEN)
    found, why = restart.after_a_stopped_evaluation([folder], WARNED, progress)
    assert (found, why and why.kind) == (code, kind)
    assert restart.after_a_stopped_evaluation([folder], ENDED, progress) == (1, None)


def test_an_evaluation_stops_where_it_is_when_it_is_warned(
    scripted: Scripted, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also inside what would take any exception for a failure of the protocol."""
    before = {number: signal.getsignal(number) for number in job.SIGNALS}

    def make(*_: object) -> None:
        signal.raise_signal(signal.SIGUSR2)

    scripted.answer("squeue", "0:25")
    monkeypatch.setattr(evaluation, "_make", make)
    monkeypatch.setattr(evaluation, "has_checkpoint", lambda _: True)
    folder.finish({})
    try:
        with pytest.raises(SystemExit) as ended:
            job.evaluate(str(folder.path))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == 1
    failed = evaluation.failure(folder)
    assert failed is not None
    assert (failed[0], failed[1].kind) == ("knn", FailureKind.timeout)
