"""Training and evaluating planned runs, here or on SLURM, and what came of them as an exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.exit_codes import FINE, INTERRUPTED, NEGATIVE
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.harness.experiments.clusters import Cluster, LocalCluster, SlurmCluster
    from repro.harness.local.pool import Outcome
    from repro.harness.plan.plan import Plan
    from repro.harness.runs.planned import PlannedRun
    from repro.harness.slurm.requirements import Increase

LOOK_SECONDS = 5.0


def check_budget(planned: Plan, cluster: Cluster, budget: float | None) -> None:
    """Raises: UserError where the plan costs more than --budget or its cluster's profile allows."""
    from repro.harness.experiments.clusters import SlurmCluster

    if isinstance(cluster, SlurmCluster):
        from repro.harness.plan import submit

        submit.check_budget(planned.cost, cluster, budget)
    elif budget is not None:
        raise UserError("--budget: this machine costs nothing; it is meant for SLURM clusters")


def start(
    runs: Sequence[PlannedRun],
    cluster: Cluster,
    workers: int | None,
    reports: Sequence[str] = (),
    more: Increase | None = None,
    wait: bool = False,
) -> int:
    """Train and evaluate what is missing; on SLURM this returns at once, unless asked to wait.

    Args:
        reports: where metrics go besides the run folder, as --report names them.
        more: what a retry asks for beyond the last job's memory and time; SLURM only.
    """
    from repro.harness.experiments.clusters import SlurmCluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.slurm.requirements import Increase

    more = more or Increase()
    runs = [_reporting(run, reports) for run in runs]
    declare(runs)
    if not all(run.config.data.made_here for run in runs):
        from repro.harness.plan.same_data import check_data

        check_data(runs, results_dir() / "runs")
    if isinstance(cluster, SlurmCluster):
        return _start_on_slurm(runs, cluster, more, wait)
    if more != Increase():
        raise UserError("--mem, --time: this machine's pool has no such limits; drop them")
    return _start_here(runs, cluster, workers)


def declare(runs: Sequence[PlannedRun]) -> None:
    """These runs are asked for as evidence: one that `repro train` made before joins its row."""
    from repro.harness.experiments.folders import results_dir
    from repro.harness.runs.planned import OWN
    from repro.harness.runs.store import find_runs

    rows = {run.id: run for run in runs if run.experiment != OWN}
    for folder in find_runs(results_dir() / "runs"):
        if folder.id in rows and folder.told().experiment == OWN:
            run = rows[folder.id]
            folder.update_run(experiment=run.experiment, row=run.row)


def _start_on_slurm(
    runs: Sequence[PlannedRun], cluster: SlurmCluster, more: Increase, wait: bool
) -> int:
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.submit import submit

    submission = submit(runs, cluster, results_dir(), more, print)
    if submission is None:
        print("nothing to send: all of it is done or has been submitted")
    fine = not (submission and (submission.refused or submission.unevaluated))
    if wait:
        fine &= _wait_for({run.id for run in runs}, results_dir())
    return FINE if fine else NEGATIVE


def _wait_for(ids: set[str], results: Path) -> bool:
    """Until none of these runs is queued, running or being evaluated; says when that changes.

    Returns:
        Whether all of them are done, and no evaluation failed.
    """
    from repro.cli.runs.look import look_at, summary
    from repro.cli.runs.status_board import failures
    from repro.harness.runs.store import find_runs

    printed = ""
    while True:
        at = look_at(
            [folder for folder in find_runs(results / "runs") if folder.id in ids], results
        )
        line = summary(at)
        if line != printed:
            print(line, flush=True)
            printed = line
        if not at.live:
            break
        time.sleep(LOOK_SECONDS)
    for text in failures(at):
        print(text)
    done = {entry["id"] for entry in at.entries if entry["state"] == "done"}
    unevaluated = any(entry["evaluation"] in ("failed", "missing") for entry in at.entries)
    return done >= ids and not unevaluated


def _start_here(runs: Sequence[PlannedRun], cluster: LocalCluster, workers: int | None) -> int:
    from repro.harness.experiments.folders import results_dir
    from repro.harness.local.pool import dispatch
    from repro.harness.plan.plan import to_do, to_evaluate
    from repro.harness.plan.room import workers_here
    from repro.harness.plan.same_data import done_before

    placed = [replace(run, config=cluster.placed(run.config)) for run in runs]
    # The longest first, so that no core waits for the last run's evaluations.
    placed.sort(key=lambda run: (run.config.train.epochs, len(run.requests)), reverse=True)
    todo = [run.config for run in placed if to_do(run) or to_evaluate(run)]
    outcome = dispatch(
        placed,
        results_dir() / "runs",
        workers_here(cluster, todo, workers),
        cluster.threads or None,
        gpus=cluster.visible or None,
    )
    if outcome.already_done:
        print(done_before(outcome.already_done))
    return _exit_code(outcome)


def _reporting(run: PlannedRun, reports: Sequence[str]) -> PlannedRun:
    """The run with its metrics also going where --report asks for."""
    from repro.harness.worker.reporters import check_reporters

    if not reports:
        return run
    reporting = replace(run.config.reporting, **dict.fromkeys(reports, True))
    check_reporters(reporting)
    return replace(run, config=replace(run.config, reporting=reporting))


def _exit_code(outcome: Outcome) -> int:
    """Tells on standard error what did not end well and what to do about it."""
    from repro.harness.evaluation.stage import failure
    from repro.terminal import count

    if outcome.interrupted:
        stopped = count(len(outcome.interrupted), "run")
        print(f"{stopped} interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    for folder in outcome.cancelled:
        print(f"{folder.path.name} was cancelled; repro retry {folder.id}", file=sys.stderr)
    for folder in outcome.failed:
        print(f"{folder.path.name} failed; repro logs {folder.id}", file=sys.stderr)
    unevaluated = [(folder, failure(folder)) for folder in outcome.done]
    for folder, why in unevaluated:
        if why:
            name, cause = why
            print(f"{folder.path.name}: {name}: {cause.line}", file=sys.stderr)
    bad = outcome.failed or outcome.cancelled or any(why for _, why in unevaluated)
    return NEGATIVE if bad else FINE
