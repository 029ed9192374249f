"""What SLURM says, asked briefly: its queue, its accounting, its settings. It never raises.

The asker's shell may hold wishes about answers (SQUEUE_STATES, SACCT_FORMAT, SLURM_CLUSTERS); they
are for people and change nothing here. A cluster other than this one is asked by its name.

Files are the truth; this only annotates. A command that is missing, slow or broken gives None, and
callers go on without it. Jobs are found by name, which a submission chooses once, and never by
number: numbers are used again, and one that was not written down yet is found all the same.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from repro.harness.slurm.submissions import me

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
    "Dependency": "parallel: is reached",  # of a training: behind another array
    "BeginTime": "SLURM delays its restart",
    "None": "SLURM has not looked at it yet",
}
WISHES = (  # of the environment, which change what SLURM's commands answer
    "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT",
    "SLURM_BITSTR_LEN", "SLURM_FEDERATION", "SLURM_JSON", "SLURM_YAML",
)  # fmt: skip
WHOLE = {"SLURM_BITSTR_LEN": "0"}  # the indices of an array, however many
AT_ONCE = 1000  # names of jobs in a question: one argument holds 128 KiB
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
    cluster: str = ""  # empty: this one

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


def ask(*command: str, patience: float = SECONDS, cluster: str = "") -> str | None:
    """The output of one of SLURM's commands, None if it is missing, fails or takes too long.

    Args:
        cluster: whose answer is wanted; empty: of this one.
    """
    name, *words = command
    elsewhere = [f"--clusters={cluster}"] if cluster else []
    environment = {k: v for k, v in os.environ.items() if not k.startswith(WISHES)}
    try:
        done = subprocess.run(
            [name, *elsewhere, *words], capture_output=True, text=True, timeout=patience,
            check=True, stdin=subprocess.DEVNULL, env=environment | WHOLE,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def queue(names: Sequence[str], cluster: str = "") -> dict[Key, QueuedTask] | None:
    """The tasks of these jobs that SLURM still has; None if it does not answer."""
    columns = "%F|%K|%T|%r|%N|%M|%j"
    tasks: dict[Key, QueuedTask] = {}
    for asked in _portions(names):
        answer = ask(
            "squeue", "--all", "--noheader", "--array", f"--name={','.join(asked)}",
            f"--format={columns}", cluster=cluster,
        )  # fmt: skip
        if answer is None:
            return None
        for line in answer.splitlines():
            if line.count("|") < 6:
                continue  # "CLUSTER: name" above the answer of a cluster that was named
            job, index, state, reason, node, clock, name = line.strip().split("|", 6)
            is_array = index.isdigit()
            shown = f"{job}_{index}" if is_array else job
            # A requeued task may be listed twice for a moment; one that runs says more.
            key = (name, int(index) if is_array else 0)
            if key not in tasks or not tasks[key].active:
                tasks[key] = QueuedTask(shown, state, reason, node, seconds(clock), cluster)
    return tasks


def accounting(
    names: Sequence[str], since: float, cluster: str = ""
) -> dict[Key, EndedTask] | None:
    """How tasks of these jobs ended, whoever's they are; None without accounting."""
    start = datetime.fromtimestamp(since - 60).strftime("%Y-%m-%dT%H:%M:%S")
    tasks: dict[Key, EndedTask] = {}
    for asked in _portions(names):
        answer = ask(
            "sacct", "--noheader", "--parsable2", "--allocations", "--allusers",
            f"--name={','.join(asked)}", f"--starttime={start}",
            "--format=JobID,State,ExitCode,NodeList,JobName", cluster=cluster,
        )  # fmt: skip
        if answer is None:
            return None
        for line in answer.splitlines():
            fields = line.split("|", 4)
            if len(fields) < 5 or not (match := TASKS.match(fields[0])):
                continue
            identity, state, exit_code, node, name = fields
            state = state.split()[0].rstrip("+") if state else ""  # "CANCELLED by 1000"
            node = "" if node.startswith("None") else node  # "None assigned"
            for index in _indices(match):
                tasks[name, index] = EndedTask(identity, state, exit_code, node)
    return tasks


def _portions(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]


def cancel(jobs: Sequence[str], cluster: str = "") -> bool:
    """Whether scancel took them all."""
    chunks = [jobs[i : i + 500] for i in range(0, len(jobs), 500)]  # within a command line's length
    return all(ask("scancel", *chunk, cluster=cluster) is not None for chunk in chunks)


def settings(cluster: str = "") -> dict[str, str] | None:
    """`scontrol show config` by key."""
    answer = ask("scontrol", "show", "config", cluster=cluster)
    if answer is None:
        return None
    pairs = (line.partition("=") for line in answer.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def my_tasks() -> int | None:
    """How many tasks I have in the queue, for limits on their number."""
    answer = ask("squeue", "--noheader", "--array", f"--user={me()}", "--format=%i")
    return None if answer is None else len(answer.split())


def seconds_left(job: str) -> float | None:
    """Until the time limit of a job; None if it has none or SLURM does not tell."""
    answer = ask("squeue", "--noheader", f"--jobs={job}", "--format=%L")
    return seconds(answer.strip()) if answer and ":" in answer else None


def preempted(job: str) -> bool:
    """Whether SLURM says that it is taking a running job's nodes for another."""
    answer = ask("scontrol", "show", "job", job)
    return answer is not None and re.search(r"PreemptTime=\d", answer) is not None


def _indices(match: re.Match[str]) -> list[int]:
    """`7` -> [0]; `7_3` -> [3]; `7_[2-4,9%2]` -> [2, 3, 4, 9]; `7_[0-4:2]` -> [0, 2, 4]."""
    _, ranges, single = match.groups()
    if single is not None:
        return [int(single)]
    if ranges is None:
        return [0]
    indices: list[int] = []
    for part in ranges.partition("%")[0].split(","):
        interval, _, step = part.partition(":")
        first, _, last = interval.partition("-")
        if first.isdigit():
            indices += range(int(first), int(last or first) + 1, int(step or 1))
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
