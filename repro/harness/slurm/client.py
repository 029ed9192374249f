"""What SLURM says, asked briefly: its queue, its accounting, its settings. It never raises.

Files are the truth; this only annotates. A command that is missing, slow or broken gives None, and
callers go on without it. Jobs are found by name, which a submission chooses once, and never by
number: numbers are used again, and one that was not written down yet is found all the same.
"""

from __future__ import annotations

import getpass
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

SECONDS = 15.0  # for one command; a busy controller answers late, a dead one never
WAITING = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
ACTIVE = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED"}
)
REASONS = {  # SLURM's commoner words for why a job waits
    "JobArrayTaskLimit": "parallel: is reached",
    "Priority": "others go first",
    "Resources": "no node is free",
    "Dependency": "after its training",
    "BeginTime": "SLURM delays its restart",
}
TASKS = re.compile(r"(\d+)(?:_(?:\[([^\]]*)\]|(\d+)))?")

Key = tuple[str, int]  # name of a job, index of a task in it


@dataclass(frozen=True)
class QueuedTask:
    """A task that SLURM still has in its queue, waiting or running."""

    job: str  # "12" or "12_3", as scancel takes it
    state: str
    reason: str
    node: str
    age: float  # seconds since it started

    @property
    def why(self) -> str:
        """The reason in words, where it is a common one."""
        return REASONS.get(self.reason, self.reason)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


@dataclass(frozen=True)
class EndedTask:
    """A task as the accounting remembers it: e.g. OUT_OF_MEMORY, exit code "0:9"."""

    job: str
    state: str
    exit_code: str
    node: str


def ask(*command: str, patience: float = SECONDS) -> str | None:
    """The output of one of SLURM's commands, None if it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patience, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def queue(names: Sequence[str]) -> dict[Key, QueuedTask] | None:
    """The tasks of these jobs that SLURM still has; None if it does not answer."""
    columns = "%F|%K|%T|%r|%N|%M|%j"
    answer = ask(
        "squeue", "--noheader", "--array", f"--name={','.join(names)}", f"--format={columns}"
    )
    if answer is None:
        return None
    tasks: dict[Key, QueuedTask] = {}
    for line in answer.splitlines():
        job, index, state, reason, node, clock, name = line.strip().split("|", 6)
        is_array = index.isdigit()
        shown = f"{job}_{index}" if is_array else job
        # A requeued task may be listed twice for a moment; one that runs says more.
        key = (name, int(index) if is_array else 0)
        if key not in tasks or not tasks[key].active:
            tasks[key] = QueuedTask(shown, state, reason, node, seconds(clock))
    return tasks


def accounting(names: Sequence[str], since: float) -> dict[Key, EndedTask] | None:
    """How tasks of these jobs ended, from one call; None without accounting."""
    start = datetime.fromtimestamp(since - 60).strftime("%Y-%m-%dT%H:%M:%S")
    answer = ask(
        "sacct", "--noheader", "--parsable2", "--allocations", f"--name={','.join(names)}",
        f"--starttime={start}", "--format=JobID,State,ExitCode,NodeList,JobName",
    )  # fmt: skip
    if answer is None:
        return None
    tasks: dict[Key, EndedTask] = {}
    for line in answer.splitlines():
        fields = line.split("|", 4)
        if len(fields) < 5 or not (match := TASKS.match(fields[0])):
            continue
        identity, state, exit_code, node, name = fields
        state = state.split()[0].rstrip("+") if state else ""  # "CANCELLED by 1000"
        for index in _indices(match):
            tasks[name, index] = EndedTask(identity, state, exit_code, node)
    return tasks


def cancel(jobs: Sequence[str]) -> bool:
    """Whether scancel took them all."""
    chunks = [jobs[i : i + 500] for i in range(0, len(jobs), 500)]  # within a command line's length
    return all(ask("scancel", *chunk) is not None for chunk in chunks)


def settings() -> dict[str, str] | None:
    """`scontrol show config` by key."""
    answer = ask("scontrol", "show", "config")
    if answer is None:
        return None
    pairs = (line.partition("=") for line in answer.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def my_tasks() -> int | None:
    """How many tasks I have in the queue, for limits on their number."""
    answer = ask("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i")
    return None if answer is None else len(answer.split())


def seconds_left(job: str) -> float | None:
    """Until the time limit of a job; None if it has none or SLURM does not tell."""
    answer = ask("squeue", "--noheader", f"--jobs={job}", "--format=%L")
    return seconds(answer.strip()) if answer and ":" in answer else None


def requeue(job: str) -> bool:
    """Ask for another start of this job, more than once if need be: the controller may be busy."""
    for wait in (0, 5, 20):
        time.sleep(wait)
        if ask("scontrol", "requeue", job, patience=60) is not None:
            return True
    return False


def _indices(match: re.Match[str]) -> list[int]:
    """`7` -> [0]; `7_3` -> [3]; `7_[2-4,9%2]` -> [2, 3, 4, 9]."""
    _, ranges, single = match.groups()
    if single is not None:
        return [int(single)]
    if ranges is None:
        return [0]
    indices: list[int] = []
    for part in ranges.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            indices += range(int(first), int((last or first).partition(":")[0]) + 1)
    return indices


def gone(job: str) -> bool:
    """Whether the queue answers and no longer has this job."""
    answer = ask("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T")
    return answer is not None and answer.strip() not in WAITING | ACTIVE


def seconds(clock: str) -> float:
    """`1-02:03:04`, `02:03:04`, `3:04` in seconds; what is no time is 0."""
    days, _, rest = clock.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        if not part.isdigit():
            return 0.0
        total = 60 * total + int(part)
    return total + 86400 * (int(days) if days.isdigit() else 0)
