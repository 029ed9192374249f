"""What the `repro` commands do that start, follow and stop runs; `parser.py` holds the parser.

Like `results.py`: a function from parsed arguments to an exit code, with its own imports.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from repro.cli.results import (
    FIGURE_FORMATS,
    FINE,
    INTERRUPTED,
    NEGATIVE,
    draw_figures,
    names_of,
    plan_power,
    print_tables,
)
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.harness.experiments.clusters import Cluster
    from repro.harness.local.pool import Outcome
    from repro.harness.plan.plan import Plan
    from repro.harness.runs.planned import PlannedRun
    from repro.harness.runs.store import RunFolder
    from repro.harness.slurm.needs import More

RETRIED = ("failed", "lost", "interrupted", "cancelled")


def plan(arguments: argparse.Namespace) -> int:
    if arguments.power:
        return plan_power(arguments)
    from repro.cli.catalogue import plan_json, print_plan
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.forecast import forecast
    from repro.terminal import print_json

    cluster = _cluster(arguments)
    planned = _plan(arguments, cluster)
    if arguments.script:
        print(_script(planned, cluster))
        return FINE
    expected = forecast(planned, cluster, results_dir(), None)
    if arguments.json:
        print_json(plan_json(planned, expected))
    else:
        print_plan(planned, expected)
    return FINE


def submit(arguments: argparse.Namespace) -> int:
    from repro.cli.catalogue import print_plan
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.forecast import forecast
    from repro.terminal import confirm, count

    cluster = _cluster(arguments)
    planned = _plan(arguments, cluster)
    if arguments.script:
        print(_script(planned, cluster))
        return FINE
    print_plan(planned, forecast(planned, cluster, results_dir(), arguments.workers))
    if not planned.todo and not planned.to_evaluate:
        return FINE
    _check_budget(planned, cluster, arguments.budget)
    parts = [count(len(planned.todo), "run")] if planned.todo else []
    parts += [count(len(planned.to_evaluate), "evaluation")] if planned.to_evaluate else []
    if not confirm(f"Start {' and '.join(parts)}?", arguments.yes):
        print("nothing started")
        return FINE
    return _dispatch(planned.runs, cluster, arguments)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.catalogue import print_plan
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.forecast import forecast
    from repro.harness.runs.store import find_runs

    cluster = _cluster(arguments)
    planned = _plan(arguments, cluster)
    print_plan(planned, forecast(planned, cluster, results_dir(), arguments.workers))
    _check_budget(planned, cluster, arguments.budget)
    code = _dispatch(planned.runs, cluster, arguments, wait=True)
    if code == INTERRUPTED:
        return code
    names = names_of(arguments.ids)
    print_tables(names, arguments.scale, "terminal")
    wanted = {run.id: run for run in planned.runs}
    folders = [f for f in find_runs(results_dir() / "runs") if f.id in wanted]
    served = {name for f in folders if f.result() for name, _ in wanted[f.id].cells}
    draw_figures([name for name in names if name in served], arguments.scale, FIGURE_FORMATS)
    return code


def train(arguments: argparse.Namespace) -> int:
    from repro.config.compose import compose, parse_assignments
    from repro.harness.experiments.folders import experiments_dir, results_dir
    from repro.harness.plan.plan import planned_run
    from repro.harness.runs.store import find_run, find_runs

    overrides = parse_assignments(arguments.overrides)
    config = compose(experiments_dir(), arguments.scale, overrides, "repro train")
    config.label.experiment = "train"
    runs = results_dir() / "runs"
    planned = planned_run(config, {folder.id: folder for folder in find_runs(runs)})
    code = _dispatch([planned], _cluster(arguments), arguments, wait=True)
    folder = find_run(runs, planned.id)
    if folder and (result := folder.result()):
        for key, value in result["metrics"].items():
            print(f"{key:<20} {value if value is None else format(value, '.6g')}")
        print(f"{'sentinel':<20} {result['sentinel']['state']}: {result['sentinel']['meaning']}")
        print(folder.path)
    return code


def status(arguments: argparse.Namespace) -> int:
    from repro.cli import board
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    results = results_dir()
    if arguments.json:
        entries, notes = board.look(arguments.patterns, results)
        print_json({"runs": entries, "notes": list(notes)})
    elif arguments.watch:
        board.watch(arguments.patterns, results, arguments.every, arguments.runs)
    else:
        board.show(arguments.patterns, results, arguments.runs)
    return FINE


def logs(arguments: argparse.Namespace) -> int:
    from repro.cli.logs import follow, print_log
    from repro.harness.experiments.folders import results_dir
    from repro.harness.status.find import find

    results = results_dir()
    folders, seen = find(arguments.patterns, results)
    if arguments.follow:
        follow(folders, results, arguments.lines)
        return FINE
    for folder in folders:
        print_log(folder, seen.views[folder.id], arguments.lines, arguments.attempt)
    return FINE


def cancel(arguments: argparse.Namespace) -> int:
    """Ask runs to stop; a running one saves a checkpoint first, so nothing is lost."""
    from repro.cli.stop import cancel as stop
    from repro.cli.stop import stoppable
    from repro.harness.experiments.folders import results_dir
    from repro.harness.status.find import find
    from repro.terminal import confirm, count

    folders, seen = find(arguments.patterns, results_dir())
    views = seen.views
    active = [folder for folder in folders if stoppable(views[folder.id])]
    if not active:
        print("nothing to cancel: none of these runs is queued or running")
        return FINE
    for folder in active:
        view = views[folder.id]
        told = view.detail or (f"its evaluation is {view.evaluation}" if view.evaluation else "")
        print(f"{view.state:<8} {folder.path.name}  {told}".rstrip())
    # One run was meant as it stands; a pattern may have caught more than was meant.
    if not confirm(f"Cancel {count(len(active), 'run')}?", arguments.yes or len(active) == 1):
        print("nothing cancelled")
        return FINE
    return FINE if stop(active, views) else NEGATIVE


def retry(arguments: argparse.Namespace) -> int:
    from repro.cli.board import show_entries
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.plan import planned_run, with_view
    from repro.harness.status.find import describe, find
    from repro.terminal import confirm, count

    folders, seen = find(arguments.patterns, results_dir())
    chosen: dict[str, list[RunFolder]] = {}
    for folder in folders:
        view = seen.views[folder.id]
        unevaluated = view.state == "done" and view.evaluation == "failed"
        if (view.state in RETRIED and not view.sent) or unevaluated:
            cause = view.cause or view.evaluation_cause
            kind = cause.kind if cause else view.state
            if arguments.only is None or _kind(arguments.only) == kind:
                sent_to = view.task.submission.cluster if view.task else "local"
                chosen.setdefault(arguments.cluster or sent_to, []).append(folder)
    wanted = [folder for group in chosen.values() for folder in group]
    if not wanted:
        print("nothing to retry: none of these runs failed, was lost, interrupted or cancelled")
        return FINE
    entries = [describe(folder, seen.views[folder.id]) for folder in wanted]
    show_entries(entries)
    places = ", ".join(chosen)
    if not confirm(f"Start {count(len(wanted), 'run')} again on {places}?", arguments.yes):
        print("nothing started")
        return FINE
    codes = []
    for name, group in chosen.items():
        arguments.cluster = name
        known = {folder.id: folder for folder in group}
        runs = [with_view(planned_run(folder.config(), known), seen) for folder in group]
        codes.append(_dispatch(runs, _cluster(arguments), arguments))
    return max(codes)


def gc(arguments: argparse.Namespace) -> int:
    from repro.cli.gc import rubbish, sweep
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import confirm, count

    found = rubbish(results_dir())
    for item in found:
        print(f"{item.bytes / 1e6:10.1f} MB  {item.path}  {item.why}")
    total = sum(item.bytes for item in found) / 1e6
    print(f"{count(len(found), 'item')}, {total:.1f} MB")
    if found and not arguments.dry_run and confirm("Remove them?", arguments.yes):
        sweep(found)
    return FINE


def _plan(arguments: argparse.Namespace, cluster: Cluster) -> Plan:
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.plan import plan as make_plan

    return make_plan(arguments.ids, arguments.scale, arguments.seeds, results_dir(), cluster)


def _cluster(arguments: argparse.Namespace) -> Cluster:
    from repro.harness.experiments.clusters import load_cluster

    return load_cluster(getattr(arguments, "cluster", None) or "local")


def _script(planned: Plan, cluster: Cluster) -> str:
    from repro.harness.experiments.clusters import SlurmCluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.slurm.batch import script

    if not isinstance(cluster, SlurmCluster):
        raise UserError(f"--script: cluster {cluster.name} is this machine and has no batch script")
    if not planned.runs:
        raise UserError("--script: none of these rows can be trained")
    return script(planned.todo or planned.runs, cluster, results_dir())


def _check_budget(planned: Plan, cluster: Cluster, budget: float | None) -> None:
    from repro.harness.experiments.clusters import SlurmCluster

    if isinstance(cluster, SlurmCluster):
        from repro.harness.plan.submit import check_budget

        check_budget(planned.cost, cluster, budget)
    elif budget is not None:
        raise UserError("--budget: this machine costs nothing; it is meant for SLURM clusters")


def _dispatch(
    planned: Sequence[PlannedRun],
    cluster: Cluster,
    arguments: argparse.Namespace,
    wait: bool = False,
) -> int:
    """Train and evaluate what is missing; on SLURM this returns at once, unless asked to wait."""
    from dataclasses import replace

    from repro.harness.experiments.clusters import SlurmCluster
    from repro.harness.experiments.folders import results_dir

    more = _more(arguments)
    planned = [_with_reports(run, arguments) for run in planned]
    if isinstance(cluster, SlurmCluster):
        from repro.cli.board import wait_for
        from repro.harness.plan.submit import submit as send

        sent = send(planned, cluster, results_dir(), more, print)
        if sent is None:
            print("nothing to send: all of it is done or has been submitted")
        fine = not (sent and sent.refused)
        if wait:
            fine &= wait_for([run.id for run in planned], results_dir())
        return FINE if fine else NEGATIVE
    if more.memory != 1 or more.minutes != 1:
        raise UserError("--mem, --time: this machine's pool has no such limits; drop them")
    from repro.harness.local.pool import dispatch

    placed = [replace(run, config=cluster.placed(run.config)) for run in planned]
    return _report(
        dispatch(
            placed,
            results_dir() / "runs",
            arguments.workers or cluster.workers or None,
            cluster.threads or None,
            gpus=cluster.visible or None,
        )
    )


def _with_reports(run: PlannedRun, arguments: argparse.Namespace) -> PlannedRun:
    from dataclasses import replace

    from repro.harness.worker.reporters import check_reporters

    asked = dict.fromkeys(getattr(arguments, "report", None) or (), True)
    if not asked:
        return run
    reporting = replace(run.config.reporting, **asked)
    check_reporters(reporting)
    return replace(run, config=replace(run.config, reporting=reporting))


def _more(arguments: argparse.Namespace) -> More:
    from repro.harness.slurm.needs import More

    return More(getattr(arguments, "mem", 1.0), getattr(arguments, "time", 1.0))


def _report(outcome: Outcome) -> int:
    """Say what did not end well and what to do about it; the exit code."""
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
            print(f"{folder.path.name}: {why['protocol']}: {why['line']}", file=sys.stderr)
    bad = outcome.failed or outcome.cancelled or any(why for _, why in unevaluated)
    return NEGATIVE if bad else FINE


def _kind(short: str) -> str:
    from repro.errors import nearest
    from repro.harness.runs.failures import KINDS

    by_short = {kind.short: name for name, kind in KINDS.items()}
    if short not in by_short:
        near = nearest(short, by_short)
        raise UserError(f"--only {short}: nearest: {near} (one of {', '.join(by_short)})")
    return by_short[short]
