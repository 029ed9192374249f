"""How runs are: their files first, then what SLURM adds, asked at most once for each of two things.

Files are the truth. A run that has a result is done and one with a fresh heartbeat is running,
whatever SLURM says. SLURM is asked only about the others that were sent to it: its queue tells
which of them wait or start, its accounting how those ended that left the queue without a word.
Where it does not answer, what the files say stands; what it would not show us (another user's jobs,
another cluster's) is not visible from here, and neither lost nor sent again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.harness.evaluation import stage as evaluation
from repro.harness.runs.failures import FailureKind
from repro.harness.runs.states import ENDED, EvaluationState, State
from repro.harness.runs.store import RunFolder
from repro.harness.slurm import client as slurm
from repro.harness.slurm import visible
from repro.harness.slurm.client import EndedTask, QueuedTask
from repro.harness.slurm.submissions import (
    EVALUATE,
    TRAIN,
    Submission,
    Task,
    damaged_submissions,
    latest_tasks,
    submissions,
)
from repro.harness.status.triage import Cause, cause_of, cause_of_evaluation
from repro.terminal import count

JUST_SENT = 60.0  # seconds within which a queue may not know a new job yet
STANDS_STILL = 15 * 60.0  # seconds without a line of metrics after which a run is said to stand
CLOCKS = 5.0  # seconds by which a node's clock may differ from SLURM's


@dataclass(frozen=True)
class View:
    """How one run is.

    Attributes:
        detail: where it waits or runs, for people.
        cause: why it is failed, lost, interrupted or cancelled.
        sent: whether a live SLURM job has it.
        starting: whether it runs only as SLURM says; its worker does not train yet.
        evaluation_cause: why its evaluation failed.
        damage: what is wrong with a file of a run that goes on all the same.
    """

    state: State
    detail: str = ""
    cause: Cause | None = None
    task: Task | None = None
    queued: QueuedTask | None = None
    evaluation: EvaluationState = EvaluationState.none
    sent: bool = False
    starting: bool = False
    evaluation_cause: Cause | None = None
    damage: str = ""


@dataclass(frozen=True)
class Overview:
    """The views of runs by id, and what is worth saying about SLURM itself."""

    views: dict[str, View]
    notes: tuple[str, ...] = ()


def overview(folders: Sequence[RunFolder], results: Path) -> Overview:
    """How these runs are now."""
    now = time.time()
    sent = submissions(results)
    by_files = {folder.id: _by_files(folder, now) for folder in folders}
    notes = tuple(f"{why}; its jobs are not followed" for why in damaged_submissions(results))
    notes += tuple(
        f"{folder.path.name}/{damage}"
        for folder in folders
        if (damage := by_files[folder.id].damage)
    )
    if not sent:
        return Overview(by_files, notes)
    # One damaged folder is one damaged run.
    sound = [folder for folder in folders if by_files[folder.id].state is not State.damaged]
    seen = _Look(sound, by_files, sent, now).overview()
    return Overview(by_files | seen.views, notes + seen.notes)


def _by_files(folder: RunFolder, now: float) -> View:
    try:
        folder.check_config()
        return _by_sound_files(folder, now)
    except UserError as error:
        host = folder.told().host or ""
        cause = Cause(FailureKind.damaged, str(error), host, folder.step)
        return View(State.damaged, "", cause)


def _by_sound_files(folder: RunFolder, now: float) -> View:
    state = folder.state(now)
    evaluated = _evaluation(folder, state)
    why = cause_of_evaluation(folder) if evaluated is EvaluationState.failed else None
    cause = cause_of(folder, state)
    detail = _stands(folder, now) if state is State.running else ""
    damage = folder.damaged_metrics()
    return View(
        state,
        detail or damage,
        cause,
        evaluation=evaluated,
        evaluation_cause=why,
        damage=damage,
    )


def _stands(folder: RunFolder, now: float) -> str:
    """Its heart beats, and it gets nowhere: a rank that waits for ever for another one, a file
    system that hangs; or it evaluates, which takes long on ImageNet."""
    moved = _last_word(folder)
    with suppress(OSError):  # before its first step
        moved = max(moved, (folder.path / "metrics.jsonl").stat().st_mtime)
    still = now - moved
    if not moved or still < STANDS_STILL:
        return ""
    return f"no step for {still / 60:.0f} min: it evaluates, or hangs (repro logs)"


def _last_word(folder: RunFolder) -> float:
    """When a worker or its pool last wrote how the run is."""
    run = folder.read_run()
    return max(run.started or 0.0, run.ended or 0.0)


def _has_log(task: Task) -> bool:
    log = task.log()
    return log is not None and log.exists()


def _evaluation(folder: RunFolder, state: State) -> EvaluationState:
    """From the files alone."""
    if state is not State.done:
        return EvaluationState.none
    if not evaluation.missing(folder):
        return EvaluationState.done if folder.evaluations() else EvaluationState.none
    return EvaluationState.failed if evaluation.failure(folder) else EvaluationState.missing


class _Look:
    """One look at runs, some of which were sent to SLURM."""

    def __init__(
        self,
        folders: Sequence[RunFolder],
        by_files: Mapping[str, View],
        sent: list[Submission],
        now: float,
    ) -> None:
        self.now, self.folders, self.sent = now, folders, sent
        self.trained, self.evaluated = latest_tasks(sent, TRAIN), latest_tasks(sent, EVALUATE)
        self.states = {folder.id: by_files[folder.id].state for folder in folders}
        self.evaluations = {folder.id: by_files[folder.id].evaluation for folder in folders}
        self.notes: list[str] = []
        self.shown = self._ask_queue()
        self.queue = self.shown.tasks
        self.ended = self._ask_accounting()

    def overview(self) -> Overview:
        views = {folder.id: self._view(folder) for folder in self.folders}
        unfinished = {
            task.submission.id
            for name, task in self.trained.items()
            if name in views and views[name].state is not State.done
        }
        for submission in self.sent:
            if submission.id in unfinished and submission.cut_off(self.now):
                self.notes.append(
                    f"submission {submission.id} of {submission.user} was cut off: what it had "
                    "sent is followed, what it had not is offered by the same repro submit"
                )
        unseen = Counter(
            view.task.submission.by
            for view in views.values()
            if view.task
            and view.sent
            and not view.queued
            and self._hidden(view.task)
            and view.state is not State.running
        )
        for by, number in unseen.items():
            self.notes.append(
                f"{count(number, 'run')} not visible from here ({by}): SLURM does not show these "
                "jobs, so they count as waiting"
            )
        return Overview(views, tuple(self.notes))

    def _ask_queue(self) -> visible.Shown:
        open_tasks = [
            task for folder in self.folders if (task := self._open_task(folder)) is not None
        ]
        shown = visible.look(open_tasks)
        if shown.tasks is None:
            self.notes.append("SLURM's queue does not answer (squeue): states are the files' alone")
        return shown

    def _hidden(self, task: Task) -> bool:
        """Whether its job may live although no queue shows it."""
        unseen = task.submission.id in self.shown.hidden and not self._queued(task)
        return unseen and not visible.is_over(self.ended.get(task.key))

    def _open_task(self, folder: RunFolder) -> Task | None:
        """The job that may still do something for this run."""
        if self.states[folder.id] is not State.done:
            return self.trained.get(folder.id)
        evaluated = self.evaluations[folder.id] is EvaluationState.done
        return None if evaluated else self.evaluated.get(folder.id)

    def _queued(self, task: Task | None) -> QueuedTask | None:
        return self.queue.get(task.key) if task and self.queue else None

    def _needs_accounting(self, folder: RunFolder) -> bool:
        """Whether a job left the queue and the run's files do not tell how."""
        state, task = self.states[folder.id], self.trained.get(folder.id)
        if task is None or self.queue is None or self._queued(task):
            return False
        if state in (State.done, State.running):
            return False
        failure = folder.failure() if state is State.failed and self._fresh(folder, task) else None
        if failure is not None:
            return failure.kind is FailureKind.killed
        return not self._young(task) or state is not State.queued

    def _evaluation_vanished(self, folder: RunFolder) -> bool:
        """Whether the job that was to evaluate left the queue without numbers and without a word.

        A job of an earlier submission than the training's went with that.
        """
        task, trained = self.evaluated.get(folder.id), self.trained.get(folder.id)
        if task is None or self.queue is None or self._queued(task) or self._young(task):
            return False
        later = trained is None or task.submission.created >= trained.submission.created
        return later and self.evaluations[folder.id] is EvaluationState.missing

    def _young(self, task: Task) -> bool:
        """Whether the queue may not know it yet."""
        return self.now - task.submission.created < JUST_SENT

    def _ask_accounting(self) -> dict[slurm.Key, EndedTask]:
        tasks = [self.trained[f.id] for f in self.folders if self._needs_accounting(f)]
        tasks += [self.evaluated[f.id] for f in self.folders if self._evaluation_vanished(f)]
        if not tasks:
            return {}
        answer = visible.ended(tasks, self.shown.here)
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
        if state is State.done:
            return self._done(folder, task)
        stands = _stands(folder, self.now) if state is State.running else ""
        if task is None:
            return View(state, stands, cause_of(folder, state))
        queued = self._queued(task)
        if state is State.running:
            node = queued.node if queued else folder.read_run().host or ""
            detail = "; ".join(filter(None, (stands, f"job {task.job} on {node}")))
            return View(state, detail, sent=True, task=task, queued=queued)
        if not self._fresh(folder, task) and state is not State.cancelled:
            state = State.queued  # what an earlier attempt left
        if queued is not None:
            return self._in_queue(folder, state, task, queued)
        unsure = self.queue is None or self._young(task)
        if state is State.queued and unsure and not task.submission.cut_off(self.now):
            detail = f"job {task.job}" if task.job else "being sent"
            return View(state, detail, task=task, sent=True)
        told = state in (State.failed, State.cancelled) or folder.cancel_requested()
        if self._hidden(task) and not told:
            return self._out_of_sight(folder, state, task)
        return self._gone(folder, state, task)

    def _out_of_sight(self, folder: RunFolder, state: State, task: Task) -> View:
        """It waits, starts again, or is gone: from here nobody can tell, so nobody sends it."""
        detail = f"not visible from here ({task.submission.by})"
        if state is State.lost:
            age = folder.heartbeat_age(self.now) or 0.0
            detail += f"; no sign of life for {age / 60:.0f} min"
            state = State.queued
        return View(state, detail, task=task, sent=True)

    def _in_queue(self, folder: RunFolder, state: State, task: Task, queued: QueuedTask) -> View:
        known: dict[str, Any] = {"task": task, "queued": queued, "sent": True}
        attempts = folder.read_run().attempts
        again = f", start {attempts + 1}" if attempts and self._fresh(folder, task) else ""
        if not queued.active:
            return View(State.queued, f"job {queued.job}: {queued.why}{again}", **known)
        age = folder.heartbeat_age(self.now)
        if state is State.lost and age is not None and queued.age > age:
            # This start of the job has had a heartbeat, which stopped: SLURM has not noticed.
            cause = cause_of(folder, state, task)
            return View(state, f"SLURM still says {queued.state} on {queued.node}", cause, **known)
        if state in ENDED and _last_word(folder) >= self.now - queued.age - CLOCKS:
            # Of this start: other runs of its pack go on, or the job asks to be started again.
            cause, comes_back = cause_of(folder, state, task), state is State.interrupted
            return View(state, "its job is ending", cause, task, queued, sent=comes_back)
        detail = f"job {queued.job} starts on {queued.node}{again}"
        return View(State.running, detail, starting=True, **known)

    def _gone(self, folder: RunFolder, state: State, task: Task) -> View:
        """Not in the queue any more, or never: the accounting may tell how it ended."""
        ended = self.ended.get(task.key)
        if state is State.queued and ended is None and self.queue is not None:
            started = _has_log(task)
            if not started and task.submission.cut_off(self.now):
                return View(state, "never sent: its submission was cut off", task=task)
        unfinished = state in (State.queued, State.interrupted)
        if ended and ended.state == "CANCELLED" and unfinished:
            state = State.cancelled
        if state is State.queued:
            state = State.lost
        cause = cause_of(folder, state, task, ended)
        taken_back = cause is not None and cause.kind is FailureKind.cancelled
        if taken_back and state in (State.interrupted, State.lost):
            state = State.cancelled
        if cause and state is State.interrupted:
            state = State.failed  # it saved in time, but its job will not come back by itself
        return View(state, "", cause, task)

    def _done(self, folder: RunFolder, task: Task | None) -> View:
        evaluating, state = self.evaluated.get(folder.id), self.evaluations[folder.id]
        queued = self._queued(evaluating) if state is not EvaluationState.done else None
        known: dict[str, Any] = {"task": evaluating or task, "queued": queued}
        if queued is not None:
            state = EvaluationState.running if queued.active else EvaluationState.waiting
            return View(State.done, evaluation=state, sent=True, **known)
        missing = state is EvaluationState.missing
        if evaluating and missing:
            if self._hidden(evaluating):
                detail = f"its evaluation is not visible from here ({evaluating.submission.by})"
                known["detail"] = detail
            if "detail" in known or self.queue is None or self._young(evaluating):
                return View(State.done, evaluation=EvaluationState.waiting, sent=True, **known)
        why: Cause | None = None
        if state is EvaluationState.failed:
            why = cause_of_evaluation(folder)
        elif evaluating and self._evaluation_vanished(folder):
            ended = self.ended.get(evaluating.key)
            # One that never began was taken back: it is missing, and nothing is wrong with it.
            if _has_log(evaluating) or (ended and ended.state != "CANCELLED"):
                state = EvaluationState.failed
                why = cause_of_evaluation(folder, evaluating, ended)
        return View(State.done, evaluation=state, evaluation_cause=why, **known)
