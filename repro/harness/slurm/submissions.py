"""Submissions: which runs were handed to SLURM, in which jobs. What two people must agree on.

results/submissions/<id>/
  submission.json   who, when, which profile and code, and for every array its name, stage and tasks
  jobs/             submitit's scripts, pickles and logs
  packs/            lists of run folders for jobs that train several

A submission is written before its jobs are sent, under the lock of all submissions: its runs are
claimed from that moment. Jobs are named after it, so that one whose submitter died before it could
write their numbers down still finds its jobs, and nobody sends them twice.
"""

from __future__ import annotations

import math
import os
import pwd
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.files import read_object, with_digest, write_json
from repro.locks import hold

TRAIN, EVALUATE = "train", "evaluate"


@dataclass
class Array:
    """One sbatch call: a task for every list of run ids. `job` is null before SLURM numbered it."""

    name: str
    stage: str
    tasks: list[list[str]]
    needs: dict[str, Any]
    job: str | None = None


@dataclass
class Submission:
    folder: Path
    created: float
    user: str
    host: str
    pid: int
    cluster: str
    code: str
    arrays: list[Array] = field(default_factory=list)
    complete: bool = False  # every array has been sent, or the rest was given up
    slurm_cluster: str = ""  # as SLURM calls the one it went to; empty: not known

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def by(self) -> str:
        """Who sent it where, for people."""
        return f"sent by {self.user} on {self.slurm_cluster or self.cluster}"

    @property
    def runs(self) -> set[str]:
        """Their ids."""
        return {run for array in self.arrays for task in array.tasks for run in task}

    def tasks(self) -> Iterator[Task]:
        for array in self.arrays:
            for index in range(len(array.tasks)):
                yield Task(self, array, index)

    def save(self) -> None:
        content = asdict(self)
        del content["folder"]
        write_json(self.folder / "submission.json", with_digest(content))

    def cut_off(self, now: float) -> bool:
        """Whether its submitter died before it had sent everything."""
        if self.complete:
            return False
        if self.host == socket.gethostname():
            return not _alive(self.pid)
        return now - self.created > 3600


@dataclass(frozen=True)
class Task:
    """Where a run's stage was sent to."""

    submission: Submission
    array: Array
    index: int

    @property
    def key(self) -> tuple[str, int]:
        return self.array.name, self.index

    @property
    def job(self) -> str | None:
        """As scancel and people take it."""
        if self.array.job is None or len(self.array.tasks) == 1:
            return self.array.job
        return f"{self.array.job}_{self.index}"

    def log(self, job: str | None = None) -> Path | None:
        """What the job itself printed, before and around the worker's log.

        Args:
            job: its number as SLURM tells it, where the submitter could not write it down.
        """
        number = self.job or job
        return self.submission.folder / "jobs" / f"{number}_0_log.out" if number else None


def new_submission(results: Path, cluster: str, code: Path, slurm_cluster: str = "") -> Submission:
    """A folder of its own; nothing is claimed before its arrays are saved."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = results / "submissions" / f"{stamp}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return Submission(
        folder,
        created=time.time(),
        user=me(),
        host=socket.gethostname(),
        pid=os.getpid(),
        cluster=cluster,
        code=str(code),
        slurm_cluster=slurm_cluster,
    )


def submissions(results: Path) -> list[Submission]:
    """Those that can be read, the oldest first."""
    read = [one for one in _all(results) if isinstance(one, Submission)]
    return sorted(read, key=lambda s: s.created)


def damaged_submissions(results: Path) -> list[str]:
    """Why others cannot be read: whose jobs they are is not known, nor what these need."""
    return [one for one in _all(results) if isinstance(one, str)]


def _all(results: Path) -> Iterator[Submission | str]:
    for file in sorted((results / "submissions").glob("*/submission.json")):
        try:
            yield _read(file)
        except UserError as error:
            yield str(error)


def _read(file: Path) -> Submission:
    """What a colleague's later version wrote beside is left out."""
    known = {field.name for field in fields(Submission)}
    content = read_object(file) or {}
    try:
        arrays = [Array(**array) for array in content.pop("arrays")]
        content = {key: value for key, value in content.items() if key in known}
        return Submission(file.parent, arrays=arrays, **content)
    except (TypeError, KeyError) as error:
        raise UserError(f"{file}: damaged: it is no submission ({error})") from None


def latest_tasks(sent: list[Submission], stage: str) -> dict[str, Task]:
    """By run id, where its stage was last sent to."""
    tasks: dict[str, Task] = {}
    for submission in sent:
        for array in submission.arrays:
            if array.stage == stage:
                for index, runs in enumerate(array.tasks):
                    tasks |= dict.fromkeys(runs, Task(submission, array, index))
    return tasks


@contextmanager
def submitting(results: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Only one submission at a time; a second one waits, then sees what the first has claimed."""
    path = results / "submissions" / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold(path, "", math.inf, lambda: say("waiting for another submission to finish ...")):
        yield


def me() -> str:
    """My name as SLURM knows it, whatever LOGNAME says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
