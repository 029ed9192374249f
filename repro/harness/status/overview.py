"""How runs are: their files first, then what SLURM adds, asked at most once for each of two things.

Files are the truth. A run that has a result is done and one with a fresh heartbeat is running,
whatever SLURM says. SLURM is asked only about the others that were sent to it: its queue tells
which of them wait or start, its accounting how those ended that left the queue without a word.
Where it does not answer, what the files say stands.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.harness.evaluation import stage as evaluation
from repro.harness.runs.store import RunFolder
from repro.harness.slurm import client as slurm
from repro.harness.slurm.client import EndedTask, QueuedTask
from repro.harness.slurm.submissions import (
    EVALUATE,
    TRAIN,
    Submission,
    Task,
    latest_tasks,
    submissions,
)
from repro.harness.status.triage import Cause, cause_of, cause_of_evaluation

JUST_SENT = 60.0  # seconds within which a queue may not know a new job yet
CLOCKS = 5.0  # seconds by which a node's clock may differ from SLURM's
ENDED = ("failed", "cancelled", "interrupted")
LIVE = ("queued", "running")


@dataclass(frozen=True)
class View:
    """`detail` says where a run waits or runs; `sent` is whether a live SLURM job has it.

    `evaluation` is empty, waiting, running, failed, missing or done; of a failed one
    `evaluation_cause` says why.
    """

    state: str
    detail: str = ""
    cause: Cause | None = None
    task: Task | None = None
    queued: QueuedTask | None = None
    evaluation: str = ""
    sent: bool = False
    evaluation_cause: Cause | None = None


@dataclass(frozen=True)
class Overview:
    """The views of runs by id, and what is worth saying about SLURM itself."""

    views: dict[str, View]
    notes: tuple[str, ...] = ()


def overview(folders: Sequence[RunFolder], results: Path) -> Overview:
    """How these runs are now."""
    now = time.time()
    found = submissions(results)
    if not found:
        return Overview({folder.id: _by_files(folder, now) for folder in folders})
    return _Look(folders, found, now).overview()


def _by_files(folder: RunFolder, now: float) -> View:
    state = folder.state(now)
    evaluated = _evaluation(folder, state)
    why = cause_of_evaluation(folder) if evaluated == "failed" else None
    cause = cause_of(folder, state)
    return View(state, "", cause, evaluation=evaluated, evaluation_cause=why)


def _last_word(folder: RunFolder) -> float:
    """When a worker or its pool last wrote how the run is."""
    run = folder.read_run()
    return max(run.get("started") or 0.0, run.get("ended") or 0.0)


def _has_log(task: Task) -> bool:
    log = task.log()
    return log is not None and log.exists()


def _evaluation(folder: RunFolder, state: str) -> str:
    if state != "done":
        return ""
    if not evaluation.missing(folder):
        return "done" if folder.evaluations() else ""
    return "failed" if evaluation.failure(folder) else "missing"


class _Look:
    """One look at runs, some of which were sent to SLURM."""

    def __init__(self, folders: Sequence[RunFolder], found: list[Submission], now: float) -> None:
        self.now, self.folders, self.found = now, folders, found
        self.trained, self.evaluated = latest_tasks(found, TRAIN), latest_tasks(found, EVALUATE)
        self.states = {folder.id: folder.state(now) for folder in folders}
        self.evaluations = {f.id: _evaluation(f, self.states[f.id]) for f in folders}
        self.notes: list[str] = []

    def overview(self) -> Overview:
        self.queue = self._ask_queue()
        silent = [self.trained[f.id] for f in self.folders if self._needs_accounting(f)]
        silent += [self.evaluated[f.id] for f in self.folders if self._evaluation_vanished(f)]
        self.ended = self._ask_accounting(silent)
        views = {folder.id: self._view(folder) for folder in self.folders}
        unfinished = {
            task.submission.id
            for name, task in self.trained.items()
            if name in views and views[name].state != "done"
        }
        for submission in self.found:
            if submission.id in unfinished and submission.cut_off(self.now):
                self.notes.append(
                    f"submission {submission.id} of {submission.user} was cut off: what it had "
                    "sent is followed, what it had not is offered by the same repro submit"
                )
        return Overview(views, tuple(self.notes))

    def _ask_queue(self) -> dict[slurm.Key, QueuedTask] | None:
        open_tasks = [
            task for folder in self.folders if (task := self._open_task(folder)) is not None
        ]
        names = sorted({task.array.name for task in open_tasks})
        if not names:
            return {}
        answer = slurm.queue(names)
        if answer is None:
            self.notes.append("SLURM's queue does not answer (squeue): states are the files' alone")
        return answer

    def _open_task(self, folder: RunFolder) -> Task | None:
        """The job that may still do something for this run."""
        if self.states[folder.id] != "done":
            return self.trained.get(folder.id)
        return self.evaluated.get(folder.id) if self.evaluations[folder.id] != "done" else None

    def _queued(self, task: Task | None) -> QueuedTask | None:
        return self.queue.get(task.key) if task and self.queue else None

    def _needs_accounting(self, folder: RunFolder) -> bool:
        """Whether a job left the queue and the run's files do not tell how."""
        state, task = self.states[folder.id], self.trained.get(folder.id)
        if task is None or self.queue is None or self._queued(task) or state in ("done", "running"):
            return False
        words = folder.failure() if state == "failed" and self._fresh(folder, task) else None
        if words is not None:
            return bool(words["kind"] == "killed")
        return not self._young(task) or state != "queued"

    def _evaluation_vanished(self, folder: RunFolder) -> bool:
        """Whether the job that was to evaluate left the queue without numbers and without a word.

        A job of an earlier submission than the training's went with that.
        """
        task, trained = self.evaluated.get(folder.id), self.trained.get(folder.id)
        if task is None or self.queue is None or self._queued(task) or self._young(task):
            return False
        later = trained is None or task.submission.created >= trained.submission.created
        return later and self.evaluations[folder.id] == "missing"

    def _young(self, task: Task) -> bool:
        """Whether the queue may not know it yet."""
        return self.now - task.submission.created < JUST_SENT

    def _ask_accounting(self, tasks: Sequence[Task]) -> dict[slurm.Key, EndedTask]:
        if not tasks:
            return {}
        names = sorted({task.array.name for task in tasks})
        answer = slurm.accounting(names, min(task.submission.created for task in tasks))
        if answer is None:
            self.notes.append(
                "SLURM's accounting does not answer (sacct): causes are those of files and logs"
            )
        return answer or {}

    def _fresh(self, folder: RunFolder, task: Task) -> bool:
        """Whether the run's files speak of this job, not of an attempt before it."""
        return _last_word(folder) >= task.submission.created

    def _view(self, folder: RunFolder) -> View:
        state, task = self.states[folder.id], self.trained.get(folder.id)
        if state == "done":
            return self._done(folder, task)
        if task is None:
            return View(state, "", cause_of(folder, state))
        queued = self._queued(task)
        if state == "running":
            host = folder.read_run().get("host", "")
            return View(state, f"job {task.job} on {queued.node if queued else host}", sent=True,
                        task=task, queued=queued)  # fmt: skip
        if not self._fresh(folder, task) and state != "cancelled":
            state = "queued"  # what an earlier attempt left
        if queued is not None:
            return self._in_queue(folder, state, task, queued)
        unsure = self.queue is None or self._young(task)
        if state == "queued" and unsure and not task.submission.cut_off(self.now):
            return View("queued", f"job {task.job}" if task.job else "being sent", task=task,
                        sent=True)  # fmt: skip
        return self._gone(folder, state, task)

    def _in_queue(self, folder: RunFolder, state: str, task: Task, queued: QueuedTask) -> View:
        known: dict[str, Any] = {"task": task, "queued": queued, "sent": True}
        attempts = folder.read_run().get("attempts", 0)
        again = f", start {attempts + 1}" if attempts and self._fresh(folder, task) else ""
        if not queued.active:
            return View("queued", f"job {queued.job}: {queued.why}{again}", **known)
        age = folder.heartbeat_age(self.now)
        if state == "lost" and age is not None and queued.age > age:
            # This start of the job has had a heartbeat, which stopped: SLURM has not noticed.
            cause = cause_of(folder, state, task)
            return View("lost", f"SLURM still says {queued.state} on {queued.node}", cause, **known)
        if state in ENDED and _last_word(folder) >= self.now - queued.age - CLOCKS:
            # Of this start: other runs of its pack go on, or the job asks to be started again.
            cause, comes_back = cause_of(folder, state, task), state == "interrupted"
            return View(state, "its job is ending", cause, task, queued, sent=comes_back)
        return View("running", f"job {queued.job} starts on {queued.node}{again}", **known)

    def _gone(self, folder: RunFolder, state: str, task: Task) -> View:
        """Not in the queue any more, or never: the accounting may tell how it ended."""
        ended = self.ended.get(task.key)
        if state == "queued" and ended is None and self.queue is not None:
            started = _has_log(task)
            if not started and task.submission.cut_off(self.now):
                return View("queued", "never sent: its submission was cut off", task=task)
        if ended and ended.state == "CANCELLED" and state in ("queued", "interrupted"):
            state = "cancelled"
        if state == "queued":
            state = "lost"
        cause = cause_of(folder, state, task, ended)
        if cause and state in ("interrupted", "lost") and cause.kind == "cancelled":
            state = "cancelled"
        if cause and state == "interrupted":
            state = "failed"  # it saved in time, but its job will not come back by itself
        return View(state, "", cause, task)

    def _done(self, folder: RunFolder, task: Task | None) -> View:
        evaluating, found = self.evaluated.get(folder.id), self.evaluations[folder.id]
        queued = self._queued(evaluating) if found != "done" else None
        known: dict[str, Any] = {"task": evaluating or task, "queued": queued}
        if queued is not None:
            return View("done", evaluation="running" if queued.active else "waiting", sent=True,
                        **known)  # fmt: skip
        if evaluating and found == "missing" and (self.queue is None or self._young(evaluating)):
            return View("done", evaluation="waiting", sent=True, **known)
        why: Cause | None = None
        if found == "failed":
            why = cause_of_evaluation(folder)
        elif evaluating and self._evaluation_vanished(folder):
            ended = self.ended.get(evaluating.key)
            # One that never began was taken back: it is missing, and nothing is wrong with it.
            if _has_log(evaluating) or (ended and ended.state != "CANCELLED"):
                found, why = "failed", cause_of_evaluation(folder, evaluating, ended)
        return View("done", evaluation=found, evaluation_cause=why, **known)
