"""`repro cancel`: a marker in the run folder, and a word to SLURM about jobs that only wait.

A run in training sees the marker at its next step, saves and stops; its job then ends by itself.
Jobs that wait or have not begun to train are taken from SLURM, unless they hold other runs too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import add_patterns, add_yes

if TYPE_CHECKING:
    from repro.harness.runs.store import RunFolder
    from repro.harness.status.overview import View

HELP = "stop runs; they keep their checkpoints"
EXAMPLE = "repro cancel T7:r2"


def add(parser: argparse.ArgumentParser) -> None:
    add_patterns(parser)
    add_yes(parser, "do not ask, whatever number of runs the pattern matches")


def run(arguments: argparse.Namespace) -> int:
    from repro.harness.experiments.folders import results_dir
    from repro.harness.status.find import find

    folders, seen = find(arguments.patterns, results_dir())
    active = [folder for folder in folders if can_stop(seen.views[folder.id])]
    if not active:
        print("nothing to cancel: none of these runs is queued or running")
        return FINE
    # One run was meant as it stands; a pattern may have caught more than was meant.
    return ask_and_cancel(active, seen.views, arguments.yes or len(active) == 1)


def ask_and_cancel(active: Sequence[RunFolder], views: Mapping[str, View], yes: bool) -> int:
    """Name these runs and, if somebody agrees, stop them."""
    from repro.terminal import confirm, count

    for folder in active:
        view = views[folder.id]
        detail = view.detail or (f"its evaluation is {view.evaluation}" if view.evaluation else "")
        print(f"{view.state:<8} {folder.path.name}  {detail}".rstrip())
    if not confirm(f"Cancel {count(len(active), 'run')}?", yes):
        print("nothing cancelled")
        return FINE
    return FINE if cancel(active, views) else NEGATIVE


def cancel(folders: Sequence[RunFolder], views: Mapping[str, View]) -> bool:
    """Whether SLURM took back all jobs that it was asked to."""
    from repro.harness.runs.states import State
    from repro.harness.slurm import client as slurm

    chosen = {folder.id for folder in folders}
    jobs: dict[str, set[str]] = {}  # by cluster
    for folder in folders:
        view = views[folder.id]
        if view.state is not State.done:
            folder.request_cancel()
            folder.event("cancel_requested")
        training = folder.is_locked() or (view.state is State.running and not view.starting)
        alone = view.task is None or _runs_of_its_job(view) <= chosen
        if view.queued is not None and alone and not training:
            jobs.setdefault(view.queued.cluster, set()).add(view.queued.job)
    taken_back = [slurm.cancel(sorted(some), cluster) for cluster, some in jobs.items()]
    if not all(taken_back):
        print("SLURM did not take back all waiting jobs (scancel); they will stop as they start")
        return False
    return True


def can_stop(view: View) -> bool:
    """Whether it is queued or running, or SLURM has a job for it."""
    from repro.harness.runs.states import LIVE

    return view.state in LIVE or view.sent


def _runs_of_its_job(view: View) -> set[str]:
    assert view.task is not None, "a queued run has a task"
    return set(view.task.array.tasks[view.task.index])
