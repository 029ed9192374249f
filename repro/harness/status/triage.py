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
from typing import Any

from repro.files import tail
from repro.harness.evaluation import stage as evaluation
from repro.harness.runs.store import RunFolder
from repro.harness.slurm.client import EndedTask
from repro.harness.slurm.submissions import Task

DAEMON = re.compile(r"slurmstepd\S*: error|srun: error")
KILLED = re.compile(r"srun: error: \S+: tasks? [\d,-]+: Killed")
ATTEMPT = "Starting with JobEnvironment("  # submitit's first line of every start of a job


# Words in a message or a log; the first kind that has one of them.
WORDS: dict[str, tuple[str, ...]] = {
    "out_of_memory": (
        "exceeded memory limit", "oom[-_ ]kill", "out of memory", "OutOfMemory",
        "can't allocate memory", "Cannot allocate memory", "MemoryError",
    ),
    "timeout": ("DUE TO TIME LIMIT",),
    "node": ("DUE TO NODE FAILURE", "NODE_FAIL"),
    "preempted": ("DUE TO PREEMPTION",),
    "disk_full": ("No space left on device", "Disk quota exceeded"),
    "import": (
        "ModuleNotFoundError", "ImportError", "cannot open shared object file", "command not found",
        "python[^ ]*: No such file or directory",
    ),
    "cuda": (
        "CUDA", "cuDNN", "CUBLAS", "NCCL", "Connection closed by peer", "Connection reset by peer",
        "ProcessGroup",
    ),
}  # fmt: skip
STATES = {
    "OUT_OF_MEMORY": "out_of_memory",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
}


@dataclass(frozen=True)
class Cause:
    kind: str
    line: str  # the decisive one
    host: str
    step: int


def cause_of(
    folder: RunFolder, state: str, task: Task | None = None, ended: EndedTask | None = None
) -> Cause | None:
    """Why a failed, lost, interrupted or cancelled run is so; None for every other."""
    if state == "failed" and (failure := folder.failure()):
        return _refined(failure, task, ended)
    if state not in ("failed", "lost", "interrupted", "cancelled"):
        return None
    run = folder.read_run()
    step = (folder.last_step() or {"step": 0})["step"]
    host = (ended.node if ended else "") or run.get("host") or ""
    kind, line = _said_by_slurm(task, ended)
    if not kind and (state == "lost" or (state == "interrupted" and ended)):
        kind, line = _said_by_the_job(task, ended)
    if state == "cancelled":
        kind, line = "cancelled", line or "by repro cancel"
    elif state == "interrupted" and not kind:
        return None
    return Cause(kind or "unknown", line or _last_words(folder, task), host, step)


def cause_of_evaluation(
    folder: RunFolder, task: Task | None = None, ended: EndedTask | None = None
) -> Cause:
    """Why the evaluation of a finished run failed, from what it wrote or from its job."""
    if failure := evaluation.failure(folder):
        cause = _refined(failure, None, None)
        return replace(cause, line=f"evaluation {failure['protocol']}: {cause.line}")
    kind, line = _said_by_slurm(task, ended)
    if not kind:
        kind, line = _said_by_the_job(task, ended)
    said = line or "its job ended without a word"
    step = (folder.last_step() or {"step": 0})["step"]
    return Cause(kind or "unknown", f"evaluation: {said}", ended.node if ended else "", step)


def _refined(failure: dict[str, Any], task: Task | None, ended: EndedTask | None) -> Cause:
    kind, line = failure["kind"], failure["line"]
    if kind == "code":
        kind = _kind_of(line) or kind
    elif kind == "killed":
        said, words = _said_by_slurm(task, ended)
        if said and said != "cancelled":
            kind, line = said, f"{line}; {words}"
        else:
            kind = _kind_of(failure.get("traceback", "")) or kind
    return Cause(kind, line, failure.get("host", ""), failure["step"])


def _said_by_slurm(task: Task | None, ended: EndedTask | None) -> tuple[str, str]:
    """Kind and line of what SLURM says it did to the job; empty where it left no word."""
    words = _words(task, ended)
    for line in reversed(words):
        if DAEMON.search(line):
            if "CANCELLED AT" in line and "DUE TO" not in line:
                continue  # every end is announced so; a reason stands in another line
            if kind := _kind_of(line):
                return kind, line
    if ended and (kind := STATES.get(ended.state, "")):
        return kind, f"SLURM: {ended.state} on {ended.node or 'no node'}"
    if any("CANCELLED AT" in line and "JOB REQUEUE" not in line for line in words):
        return "cancelled", next(line for line in reversed(words) if "CANCELLED AT" in line)
    return "", ""


def _said_by_the_job(task: Task | None, ended: EndedTask | None) -> tuple[str, str]:
    """Kind and line of a job that ended before it could write why into the run's folder."""
    words = [line for line in _words(task, ended) if line.strip()]
    last = _decisive(words)
    if ended is None or ended.exit_code in ("", "0:0"):
        kind = _kind_of(last)
        return (kind, f"last line of the job: {last}") if kind else ("", "")
    code, _, number = ended.exit_code.partition(":")
    if number not in ("", "0"):
        return "killed", f"SLURM: {ended.state}, killed by signal {number}; last line: {last}"
    killed = next((line for line in words if KILLED.match(line)), "")
    kind = _kind_of("\n".join(words[-20:])) or ("killed" if killed else "unknown")
    how = killed or f"exit code {code}"
    return kind, f"SLURM: {ended.state}, {how}; last line of the job: {last}"


def _decisive(words: Sequence[str]) -> str:
    """The line of the last exception, or what was said last by anything but SLURM's own tools."""
    own = [line.strip() for line in words if not line.startswith(("srun: ", "slurmstepd"))]
    raised = [line for line in own if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)]
    return (raised or own or ["none"])[-1]


def _words(task: Task | None, ended: EndedTask | None) -> list[str]:
    """What the last start of the job printed."""
    log = task.log(ended.job if ended else None) if task else None
    return last_attempt(log) if log else []


def _kind_of(text: str) -> str:
    found = (kind for kind, words in WORDS.items() if re.search("|".join(words), text))
    return next(found, "")


def _last_words(folder: RunFolder, task: Task | None) -> str:
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
