"""Why runs ended badly, in a dozen kinds, each with what it means and what to do.

Evidence in this order: what the worker or its pool wrote down (failure.json), what SLURM's daemons
wrote into the job's log as they killed it, what the accounting remembers. The first that says more
than "killed" decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repro.files import tail
from repro.harness.evaluation import stage as evaluation
from repro.harness.runs.failures import Failure, FailureKind, failure_of_a_rank
from repro.harness.runs.states import ENDED, State
from repro.harness.runs.store import RunFolder
from repro.harness.slurm.client import EndedTask
from repro.harness.slurm.submissions import Task

DAEMON = re.compile(r"slurmstepd\S*: error|srun: error")
KILLED = re.compile(r"srun: error: \S+: tasks? [\d,-]+: Killed")
# A step that does not listen to SLURM's warning, such as one of a set-up, is ended by it.
WARNED = re.compile(r"srun: error: \S+: tasks? [\d,-]+: User defined signal 2")
NO_OUTPUT = "53"  # as exit code 0:53 SLURM says that it could not open a job's output: no signal
ATTEMPT = "Starting with JobEnvironment("  # submitit's first line of every start of a job

# In a message or a log; the first kind that has one of its patterns there.
PATTERNS: dict[FailureKind, tuple[str, ...]] = {
    FailureKind.out_of_memory: (
        "exceeded memory limit", "oom[-_ ]kill", "out of memory", "OutOfMemory",
        "can't allocate memory", "Cannot allocate memory", "MemoryError", "ALLOC(ATION)?_FAILED",
    ),
    FailureKind.timeout: ("DUE TO TIME LIMIT",),
    FailureKind.node: ("DUE TO NODE FAILURE", "NODE_FAIL"),
    FailureKind.preempted: ("DUE TO PREEMPTION",),
    FailureKind.disk_full: ("No space left on device", "Disk quota exceeded"),
    FailureKind.import_: (
        "ModuleNotFoundError", "ImportError", "cannot open shared object file", "command not found",
        "python[^ ]*: No such file or directory", "setup: failed on",
    ),
    FailureKind.cuda: (
        "CUDA", "cuDNN", "CUBLAS", "NCCL", "Connection closed by peer", "Connection reset by peer",
        "ProcessGroup",
    ),
}  # fmt: skip
ENDINGS = {  # the accounting's states that say why
    "OUT_OF_MEMORY": FailureKind.out_of_memory,
    "TIMEOUT": FailureKind.timeout,
    "DEADLINE": FailureKind.timeout,
    "NODE_FAIL": FailureKind.node,
    "BOOT_FAIL": FailureKind.node,
    "PREEMPTED": FailureKind.preempted,
    "CANCELLED": FailureKind.cancelled,
    "REVOKED": FailureKind.cancelled,
}
Evidence = tuple[FailureKind, str]  # and the line that shows it


@dataclass(frozen=True)
class Cause:
    """What status concludes from all that was left behind."""

    kind: FailureKind
    line: str  # the decisive one
    host: str
    step: int


def cause_of(
    folder: RunFolder, state: State, task: Task | None = None, ended: EndedTask | None = None
) -> Cause | None:
    """Why a failed, lost, interrupted or cancelled run is so; None for every other."""
    if state is State.failed and (failure := folder.failure()):
        return _refined(failure, task, ended)
    if state not in (*ENDED, State.lost):
        return None
    host = (ended.node if ended else "") or folder.read_run().host or ""
    if state is State.lost and (failure := failure_of_a_rank(folder.path)):
        # Its rank 0 was ended with the rank that failed, before it could tell.
        return _refined(failure, task, ended)
    evidence = _by_slurm(task, ended)
    if not evidence and (state is State.lost or (state is State.interrupted and ended)):
        evidence = _by_the_job(task, ended)
    if state is State.cancelled:
        line = evidence[1] if evidence else "by repro cancel"
        return Cause(FailureKind.cancelled, line, host, folder.step)
    if state is State.interrupted and not evidence:
        return None
    kind, line = evidence or (FailureKind.unknown, _last_line(folder, task))
    return Cause(kind, line, host, folder.step)


def cause_of_evaluation(
    folder: RunFolder, task: Task | None = None, ended: EndedTask | None = None
) -> Cause:
    """Why the evaluation of a finished run failed, from what it wrote or from its job."""
    if failed := evaluation.failure(folder):
        name, failure = failed
        cause = _refined(failure, None, None)
        return replace(cause, line=f"evaluation {name}: {cause.line}")
    evidence = _by_slurm(task, ended) or _by_the_job(task, ended)
    kind, line = evidence or (FailureKind.unknown, "its job ended without a word")
    return Cause(kind, f"evaluation: {line}", ended.node if ended else "", folder.step)


def _refined(failure: Failure, task: Task | None, ended: EndedTask | None) -> Cause:
    kind, line = failure.kind, failure.line
    if kind is FailureKind.code:
        kind = _kind_of(line) or kind
    elif kind is FailureKind.killed:
        evidence = _by_slurm(task, ended)
        if evidence and evidence[0] is not FailureKind.cancelled:
            kind, line = evidence[0], f"{line}; {evidence[1]}"
        else:
            kind = _kind_of(failure.traceback) or kind
    return Cause(kind, line, failure.host, failure.step)


def _by_slurm(task: Task | None, ended: EndedTask | None) -> Evidence | None:
    """What SLURM says it did to the job; None where it left no word."""
    log = _job_log(task, ended)
    for line in reversed(log):
        if DAEMON.search(line):
            if "CANCELLED AT" in line and "DUE TO" not in line:
                continue  # every end is announced so; a reason stands in another line
            if kind := _kind_of(line):
                return kind, line
    if ended and (ending := ENDINGS.get(ended.state)):
        return ending, f"SLURM: {ended.state} on {ended.node or 'no node'}"
    if any("CANCELLED AT" in line and "JOB REQUEUE" not in line for line in log):
        line = next(line for line in reversed(log) if "CANCELLED AT" in line)
        return FailureKind.cancelled, line
    return None


def _by_the_job(task: Task | None, ended: EndedTask | None) -> Evidence | None:
    """What the log of a job says that ended before it could write why into the run's folder."""
    log = [line for line in _job_log(task, ended) if line.strip()]
    last = decisive(log)
    if any(WARNED.match(line) for line in log):
        line = f"its set-up was ended by SLURM's warning (USR2); last line of the job: {last}"
        return FailureKind.timeout, line
    if ended is None or ended.exit_code in ("", "0:0"):
        kind = _kind_of(last)
        return (kind, f"last line of the job: {last}") if kind else None
    code, _, number = ended.exit_code.partition(":")
    if number == NO_OUTPUT:
        place = task.submission.folder / "jobs" if task else "its folder"
        line = f"SLURM: {ended.state}, no log could be opened on {ended.node}: {place} is not there"
        return FailureKind.unknown, f"{line}, not to be written or full; repro doctor tries it"
    if number not in ("", "0"):
        line = f"SLURM: {ended.state}, killed by signal {number}; last line: {last}"
        return FailureKind.killed, line
    killed = next((line for line in log if KILLED.match(line)), "")
    kind = _kind_of("\n".join(log[-20:]))
    kind = kind or (FailureKind.killed if killed else FailureKind.unknown)
    end = killed or f"exit code {code}"
    return kind, f"SLURM: {ended.state}, {end}; last line of the job: {last}"


def decisive(log: Sequence[str]) -> str:
    """The line of the last exception, or the last one of anything but SLURM's own tools."""
    own = [line.strip() for line in log if not line.startswith(("srun: ", "slurmstepd"))]
    raised = [line for line in own if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)]
    return (raised or own or ["none"])[-1]


def _job_log(task: Task | None, ended: EndedTask | None) -> list[str]:
    """What the last start of the job printed."""
    log = task.log(ended.job if ended else None) if task else None
    return last_attempt(log) if log else []


def _kind_of(text: str) -> FailureKind | None:
    kinds = (kind for kind, patterns in PATTERNS.items() if re.search("|".join(patterns), text))
    return next(kinds, None)


def _last_line(folder: RunFolder, task: Task | None) -> str:
    for path in (folder.path / "log.txt", task.log() if task else None):
        lines = [line for line in tail(path) if line.strip()] if path else []
        if lines:
            return f"no trace of why; last line of its log: {lines[-1].strip()}"
    return "no trace of why, and no log: it never started"


def last_attempt(log: Path) -> list[str]:
    """What the last start of a job printed."""
    lines = tail(log)
    starts = [index for index, line in enumerate(lines) if ATTEMPT in line]
    return lines[starts[-1] :] if starts else lines


def grouped(causes: Sequence[tuple[str, Cause]]) -> list[tuple[Cause, list[str], list[str]]]:
    """(an example, run ids, hosts) of each group of one cause, the largest group first.

    Lines that differ in numbers and paths only are one cause.
    """
    groups: dict[tuple[str, str], list[tuple[str, Cause]]] = {}
    for run, cause in causes:
        like = re.sub(r"0x[0-9a-f]+|[\w.-]*/[\w./-]+|\d+(\.\d+)?", "#", cause.line)
        groups.setdefault((cause.kind, like), []).append((run, cause))
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [
        (members[0][1], [run for run, _ in members], sorted({c.host for _, c in members if c.host}))
        for members in ordered
    ]
