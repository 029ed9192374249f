"""`repro submit` and `repro retry` on SLURM: what is missing is claimed and sent, once.

Under the lock of all submissions the plan is made again, so that two people who submit one grid at
the same moment start each run once: the second finds the first one's claims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.harness.evaluation.requests import ask
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.plan.cost import Cost
from repro.harness.plan.obstacles import check_folders
from repro.harness.plan.plan import to_do, to_evaluate, with_view
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.store import find_runs
from repro.harness.slurm.batch import Sent, send
from repro.harness.slurm.requirements import Increase
from repro.harness.slurm.submissions import EVALUATE, TRAIN, latest_tasks, submissions, submitting
from repro.harness.status.overview import overview
from repro.terminal import count


def check_budget(cost: Cost | None, cluster: SlurmCluster, budget: float | None) -> None:
    """Raises: UserError, if the runs would cost more than the profile or the command allows."""
    limit = cluster.budget_hours if budget is None else budget
    if not limit:
        return
    where = f"budget_hours: of {cluster.name}" if budget is None else "--budget"
    without = "budget_hours: 0" if budget is None else "--budget 0"
    hours = (cost.gpu_hours if cluster.gpus else cost.cpu_hours) if cost else 0.0
    if not hours:
        raise UserError(
            f"{where} {limit:g}: what these runs cost is not known yet; finish one run of this "
            f"scale first, or go without a limit ({without})"
        )
    if hours > limit:
        unit = "GPU" if cluster.gpus else "CPU"
        raise UserError(
            f"{where} {limit:g}: these runs need about {hours:,.1f} {unit}-hours; choose fewer "
            "rows or seeds, or raise the limit"
        )


def submit(
    planned: Sequence[PlannedRun],
    cluster: SlurmCluster,
    results: Path,
    more: Increase,
    say: Callable[[str], None],
) -> Sent | None:
    """Send the runs of these that are still to do; None if nothing was left to send.

    Raises:
        UserError: a data set has no folder; SLURM is not here, or refuses for a reason that
            waiting does not mend.
    """
    with submitting(results, say):
        by_id = {run.id: run for run in planned}
        folders = [f for f in find_runs(results / "runs") if f.id in by_id]
        for folder in folders:
            run = by_id[folder.id]
            with suppress(UserError):  # a damaged run is shown as such, and not sent
                ask(folder, run.requests, cluster.with_benchmarks(run.config))
        seen = overview(folders, results)
        now = [with_view(run, seen) for run in planned]
        for run in now:
            if run.damage:
                say(f"not sent: {run.damage}")
        train = [run for run in now if to_do(run)]
        evaluate = [run for run in now if to_evaluate(run)]
        if not train and not evaluate:
            return None
        check_folders([cluster.placed(run.config) for run in train], cluster, results)
        sent = send(train, evaluate, cluster, results, _last_requirements(results), more)
    for line in summary(sent):
        say(line)
    return sent


def summary(sent: Sent) -> list[str]:
    """What was sent, for people."""
    lines = []
    for array in sent.submission.arrays:
        runs = sum(map(len, array.tasks))
        what = "training" if array.stage == TRAIN else "evaluation"
        jobs = f", {count(len(array.tasks), 'job')}" if len(array.tasks) != runs else ""
        lines.append(f"{what} of {count(runs, 'run')}: job {array.job}{jobs}")
    if sent.refused:
        lines.append(
            f"{count(len(sent.refused), 'run')} not sent ({sent.why}); repeat the command when the "
            "queue has room"
        )
    if sent.unevaluated:
        lines.append(
            f"evaluations of {count(len(sent.unevaluated), 'run')} not sent "
            f"({sent.why_unevaluated}); repeat the command when they are trained"
        )
    lines.append(f"submission {sent.submission.id}; repro status --watch")
    return lines


def _last_requirements(results: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """By stage and run, what its last job asked for."""
    sent = submissions(results)
    return {
        stage: {run: task.array.needs for run, task in latest_tasks(sent, stage).items()}
        for stage in (TRAIN, EVALUATE)
    }
