"""Whose jobs, on which cluster, can be seen from here: a job is gone only where it would be shown.

Several people may share a results folder, and several clusters a home. Every submission says who
sent it and to which cluster (`ClusterName`). Where that is another cluster, it is asked by name;
where it does not answer, or where others' jobs are private (`PrivateData=jobs`), a job that is not
listed may well wait or run: it is not visible, and nobody sends it again.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.harness.slurm import client as slurm
from repro.harness.slurm.client import ACTIVE, WAITING, EndedTask, Key, QueuedTask
from repro.harness.slurm.submissions import Task, me

if TYPE_CHECKING:
    from repro.harness.experiments.clusters import SlurmCluster


@dataclass(frozen=True)
class Shown:
    """What the queues answered about some jobs.

    Attributes:
        tasks: None if the queue of this cluster does not answer.
        hidden: ids of submissions whose jobs may live without being listed.
    """

    tasks: Mapping[Key, QueuedTask] | None
    hidden: frozenset[str]
    here: str = ""  # this cluster, as SLURM calls it


@dataclass(frozen=True)
class Destination:
    """Where sbatch sends to: the cluster as SLURM calls it (empty if it does not tell)."""

    name: str
    settings: Mapping[str, str]


def look(tasks: Sequence[Task]) -> Shown:
    """Ask for these jobs wherever they were sent to."""
    if not tasks:
        return Shown({}, frozenset())
    with ThreadPoolExecutor(1) as beside:  # where SLURM is down, both answers take their time
        telling = beside.submit(slurm.settings)
        shown = slurm.queue(_names(tasks))
        settings = telling.result() or {}
    here = settings.get("ClusterName", "")
    if shown is None and not here:
        return Shown(None, frozenset())
    private = os.geteuid() != 0 and _private(settings)
    elsewhere = _elsewhere(tasks, here)
    answers = {name: slurm.queue(_names(group), name) for name, group in elsewhere.items()}
    mine, hidden = me(), set()
    for submission in {task.submission.id: task.submission for task in tasks}.values():
        others = submission.user != mine
        if submission.slurm_cluster in answers:
            unseen = answers[submission.slurm_cluster] is None or others
        else:
            unseen = private and others
        if unseen:
            hidden.add(submission.id)
    found = [answer for answer in answers.values() if answer]
    if shown is not None:
        for answer in found:
            shown |= answer
    return Shown(shown, frozenset(hidden), here)


def ended(tasks: Sequence[Task], here: str) -> dict[Key, EndedTask] | None:
    """What the accounting of all their clusters knows of these tasks' ends; None without one."""
    since = min(task.submission.created for task in tasks)
    elsewhere = _elsewhere(tasks, here)
    away = {task.key for group in elsewhere.values() for task in group}
    near = [task for task in tasks if task.key not in away]
    found: dict[Key, EndedTask] = {}
    if near:
        answer = slurm.accounting(_names(near), since)
        if answer is None:
            return None
        found |= answer
    for name, group in elsewhere.items():
        found |= slurm.accounting(_names(group), since, name) or {}
    return found


def is_over(end: EndedTask | None) -> bool:
    """Whether the accounting has seen its end; it also lists what waits and runs."""
    return end is not None and end.state not in WAITING | ACTIVE


def destination(cluster: SlurmCluster) -> Destination:
    """Raises: UserError, if sbatch may choose between clusters: nobody could find its jobs."""
    named = str(cluster.options.get("clusters") or os.environ.get("SLURM_CLUSTERS", ""))
    if "," in named or named == "all":
        raise UserError(
            f"cluster {cluster.name}: SLURM would choose among the clusters {named}: name one, by "
            "SLURM_CLUSTERS or by extra: {clusters: NAME} of the profile"
        )
    settings = slurm.settings() or {}
    here = settings.get("ClusterName", "")
    if named and named != here:
        return Destination(named, slurm.settings(named) or {})
    return Destination(here, settings)


def _private(settings: Mapping[str, str]) -> bool:
    words = settings.get("PrivateData", "").split(",")
    return "jobs" in words or "all" in words


def _elsewhere(tasks: Sequence[Task], here: str) -> dict[str, list[Task]]:
    """Those of other clusters, by cluster; a submission that names none went to this one."""
    groups: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.submission.slurm_cluster not in ("", here):
            groups[task.submission.slurm_cluster].append(task)
    return groups


def _names(tasks: Sequence[Task]) -> list[str]:
    return sorted({task.array.name for task in tasks})
