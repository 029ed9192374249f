"""Another start of a job: who asks for it, and when nobody should.

SLURM warns a job before its time limit, and before preemption where the site has it so (USR2): its
runs save, and the job asks for another start. Otherwise SLURM preempts with SIGTERM and a grace
time, and queues again only the jobs that it has to end itself: the runs save, and the job stays.
Both are left to the batch script (`script.py`), to which a job speaks by its exit code.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from repro.files import whole_lines
from repro.hardware import hostname
from repro.harness.runs import variables
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import RunFolder
from repro.harness.slurm import client as slurm

NEAR_THE_END = 60.0  # seconds beside the warning time: then it was the time limit, no preemption
STARTS_WITHOUT_PROGRESS = 3  # after which a run is not started again


def after_a_stop(folders: Sequence[RunFolder], received: Sequence[signal.Signals]) -> int:
    """The exit code of a job whose training was stopped; runs that are to stop for good are told.

    Args:
        folders: its interrupted runs, which have saved.
    """
    if received and signal.SIGUSR2 not in received:
        print(f"{received[0].name}: SLURM ends this job; nothing is asked for", flush=True)
        return 1
    kind, why = _reason()
    if all(_stands_still(folder) for folder in folders):
        line = f"{why} for the {STARTS_WITHOUT_PROGRESS}rd time at the same step"
        line += "; more minutes, or a shorter warning_seconds, before it is retried"
        return _stopped_for_good(folders, Failure(kind, line, host=hostname()))
    if not _may_start_again():
        line = f"{why} after {_starts()} start(s), and no more are allowed; its checkpoint is saved"
        return _stopped_for_good(folders, Failure(kind, line, host=hostname()))
    return _again(folders, why)


def after_a_stopped_evaluation(
    folders: Sequence[RunFolder], received: Sequence[signal.Signals], progress: bool
) -> tuple[int, Failure | None]:
    """The exit code, and why the evaluations of `folders` are given up, if they are.

    One that its time limit stopped has no checkpoint: it would be stopped there again.

    Args:
        folders: the runs that still have some to be made.
        progress: whether this start made any.
    """
    if signal.SIGUSR2 not in received:
        print(f"{received[0].name}: SLURM ends this job; nothing is asked for", flush=True)
        return 1, None
    kind, why = _reason()
    if kind is FailureKind.timeout and not progress:
        return 1, Failure(kind, f"{why}, and none was done by then", host=hostname())
    if not _may_start_again():
        line = f"{why} after {_starts()} start(s), and no more are allowed"
        return 1, Failure(kind, line, host=hostname())
    return _again(folders, why), None


def _reason() -> tuple[FailureKind, str]:
    """Why SLURM warned this job."""
    job = os.environ["SLURM_JOB_ID"]
    left = slurm.seconds_left(job)
    near = left is not None and left <= NEAR_THE_END + variables.WARNING.read()
    if near and not slurm.preempted(job):
        return FailureKind.timeout, "its time limit is near"
    return FailureKind.preempted, "preempted"


def _starts() -> int:
    return variables.SLURM_RESTARTS.read() + 1


def _may_start_again() -> bool:
    return _starts() <= variables.REQUEUES.read()


def _stands_still(folder: RunFolder) -> bool:
    """Whether this start of the job and those before it brought the run no step further."""
    events, _ = whole_lines(folder.path / "events.jsonl")
    mine = [e for e in events if e.get("event") == "requeued" and e.get("job") == _job()]
    earlier = [e.get("step") for e in mine][1 - STARTS_WITHOUT_PROGRESS :]
    return earlier == [folder.step] * (STARTS_WITHOUT_PROGRESS - 1)


def _again(folders: Sequence[RunFolder], why: str) -> int:
    start = _starts()
    for folder in folders:
        folder.event("requeued", job=_job(), start=start, reason=why, step=folder.step)
    most = variables.REQUEUES.read() + 1
    print(f"{why}: asking for start {start + 1} of at most {most}", flush=True)
    return variables.ASKS_FOR_A_START


def _stopped_for_good(folders: Sequence[RunFolder], failure: Failure) -> int:
    from msgspec import structs

    for folder in folders:
        folder.fail(structs.replace(failure, step=folder.step))
        folder.event("failed", kind=failure.kind, line=failure.line)
    print(failure.line, flush=True)
    return 1


def _job() -> str:
    return os.environ["SLURM_JOB_ID"]
