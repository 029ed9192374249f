"""`repro cancel`: a marker in the run folder, and a word to SLURM about jobs that only wait.

A run in training sees the marker at its next step, saves and stops; its job then ends by itself.
Jobs that wait or have not begun to train are taken from SLURM, unless they hold other runs too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repro.harness.runs.store import RunFolder
from repro.harness.slurm import client as slurm
from repro.harness.status.overview import View


def stoppable(view: View) -> bool:
    return view.state in ("queued", "running") or view.sent


def cancel(folders: Sequence[RunFolder], views: Mapping[str, View]) -> bool:
    """Whether SLURM took back all jobs that it was asked to."""
    chosen = {folder.id for folder in folders}
    jobs: list[str] = []
    for folder in folders:
        view = views[folder.id]
        if view.state != "done":
            folder.request_cancel()
            folder.event("cancel_requested")
        training = folder.is_locked() or (view.state == "running" and "starts" not in view.detail)
        alone = view.task is None or _runs(view) <= chosen
        if view.queued is not None and alone and not training:
            jobs.append(view.queued.job)
    if jobs and not slurm.cancel(sorted(set(jobs))):
        print("SLURM did not take back all waiting jobs (scancel); they will stop as they start")
        return False
    return True


def _runs(view: View) -> set[str]:
    """All runs of the job that has this one."""
    assert view.task is not None, "a queued run has a task"
    return set(view.task.array.tasks[view.task.index])
