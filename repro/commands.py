"""What each `repro` command does: a function from parsed arguments to an exit code.

Every function imports what it needs when it is called; `repro/cli.py` holds the parser.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repro.harness.local import Outcome
    from repro.harness.plan import Plan, PlannedRun

FINE, NEGATIVE, MISTAKE, INTERRUPTED = 0, 1, 2, 130
FIGURE_FORMATS = ("png", "svg")


def list_(arguments: argparse.Namespace) -> int:
    from repro.harness.catalogue import listing, print_listing
    from repro.harness.spec import results_dir
    from repro.harness.terminal import print_json

    (print_json if arguments.json else print_listing)(listing(results_dir()))
    return FINE


def show(arguments: argparse.Namespace) -> int:
    from repro.harness.catalogue import details, print_details
    from repro.harness.spec import select
    from repro.harness.terminal import print_json

    selection = select(arguments.ids)
    if arguments.json:
        found = [details(experiment, rows) for experiment, rows in selection]
        print_json(found[0] if len(found) == 1 else found)
        return FINE
    for experiment, rows in selection:
        print_details(experiment, rows)
    return FINE


def plan(arguments: argparse.Namespace) -> int:
    from repro.harness.catalogue import plan_json, print_plan
    from repro.harness.terminal import print_json

    planned = _plan(arguments)
    if arguments.json:
        print_json(plan_json(planned))
    else:
        print_plan(planned)
    return FINE


def submit(arguments: argparse.Namespace) -> int:
    from repro.harness.catalogue import print_plan
    from repro.harness.terminal import confirm, count

    planned = _plan(arguments)
    print_plan(planned)
    if not planned.todo:
        return FINE
    if not confirm(f"Start {count(len(planned.todo), 'run')}?", arguments.yes):
        print("nothing started")
        return FINE
    return _report(_dispatch(planned.runs, arguments))


def run(arguments: argparse.Namespace) -> int:
    from repro.harness.catalogue import print_plan

    planned = _plan(arguments)
    print_plan(planned)
    outcome = _dispatch(planned.runs, arguments)
    code = _report(outcome)
    if code == INTERRUPTED:
        return code
    names = _names(arguments.ids)
    _print_tables(names, arguments.scale, "terminal")
    finished = {folder.id for folder in (*outcome.already_done, *outcome.done)}
    served = {name for r in planned.runs if r.id in finished for name, _ in r.cells}
    _draw_figures([name for name in names if name in served], arguments.scale, FIGURE_FORMATS)
    return code


def status(arguments: argparse.Namespace) -> int:
    from repro.harness.spec import results_dir
    from repro.harness.status import describe, find, print_status
    from repro.harness.terminal import print_json

    entries = [describe(folder) for folder in find(arguments.patterns, results_dir() / "runs")]
    if arguments.json:
        print_json({"runs": entries})
    else:
        print_status(entries)
    return FINE


def logs(arguments: argparse.Namespace) -> int:
    from repro.harness.spec import results_dir
    from repro.harness.status import find, print_log

    for folder in find(arguments.patterns, results_dir() / "runs"):
        print_log(folder)
    return FINE


def cancel(arguments: argparse.Namespace) -> int:
    """Ask runs to stop; a running one saves a checkpoint first, so nothing is lost."""
    from repro.harness.spec import results_dir
    from repro.harness.status import describe, find

    folders = find(arguments.patterns, results_dir() / "runs")
    active = [f for f in folders if describe(f)["state"] in ("queued", "running")]
    for folder in active:
        folder.request_cancel()
        folder.event("cancel_requested")
        print(f"cancelling {folder.path.name}")
    if not active:
        print("nothing to cancel: none of these runs is queued or running")
    return FINE


def retry(arguments: argparse.Namespace) -> int:
    from repro.harness.plan import planned_run
    from repro.harness.spec import results_dir
    from repro.harness.status import describe, find, print_status
    from repro.harness.terminal import confirm, count

    wanted = {}
    for folder in find(arguments.patterns, results_dir() / "runs"):
        entry = describe(folder)
        if entry["state"] in ("failed", "lost", "interrupted", "cancelled"):
            wanted[folder.id] = (folder, entry)
    if not wanted:
        print("nothing to retry: none of these runs failed, was lost, interrupted or cancelled")
        return FINE
    print_status([entry for _, entry in wanted.values()])
    if not confirm(f"Start {count(len(wanted), 'run')} again?", arguments.yes):
        print("nothing started")
        return FINE
    folders = {name: folder for name, (folder, _) in wanted.items()}
    runs = [planned_run(folder.config(), folders) for folder in folders.values()]
    return _report(_dispatch(runs, arguments))


def train(arguments: argparse.Namespace) -> int:
    from repro.compose import compose, parse_assignments
    from repro.harness.plan import planned_run
    from repro.harness.spec import experiments_dir, results_dir
    from repro.harness.store import find_run, find_runs

    overrides = parse_assignments(arguments.overrides)
    config = compose(experiments_dir(), arguments.scale, overrides, "repro train")
    config.label.experiment = "train"
    runs = results_dir() / "runs"
    planned = planned_run(config, {folder.id: folder for folder in find_runs(runs)})
    code = _report(_dispatch([planned], arguments))
    folder = find_run(runs, planned.id)
    if folder and (result := folder.result()):
        for key, value in result["metrics"].items():
            print(f"{key:<20} {value if value is None else format(value, '.6g')}")
        print(f"{'sentinel':<20} {result['sentinel']['state']}: {result['sentinel']['meaning']}")
        print(folder.path)
    return code


def table(arguments: argparse.Namespace) -> int:
    _print_tables(_names(arguments.ids), arguments.scale, arguments.format)
    return FINE


def figure(arguments: argparse.Namespace) -> int:
    formats = [arguments.format] if arguments.format else FIGURE_FORMATS
    _draw_figures(_names(arguments.ids), arguments.scale, formats)
    return FINE


def check(arguments: argparse.Namespace) -> int:
    from analysis.claims import check as judge
    from analysis.claims import print_verdicts
    from repro.harness.terminal import print_json

    verdicts = judge(_names(arguments.ids or ["all"]), arguments.scale, arguments.on)
    summary = Counter(verdict.verdict for verdict in verdicts)
    if arguments.json:
        print_json({"claims": [asdict(v) for v in verdicts], "summary": summary})
    else:
        print_verdicts(verdicts)
        print(", ".join(f"{number} {word}" for word, number in summary.items()))
    return NEGATIVE if any(verdict.holds is False for verdict in verdicts) else FINE


def explain(arguments: argparse.Namespace) -> int:
    from analysis.explain import explain as trace
    from repro.harness.terminal import print_json

    found = trace(arguments.cell, arguments.scale)
    if arguments.json:
        print_json(found)
        return FINE
    for key, value in found.items():
        if isinstance(value, list):
            print(f"{key}:")
            for item in value:
                print(f"  {item}")
        else:
            print(f"{key}: {value}")
    return FINE


def publish(arguments: argparse.Namespace) -> int:
    from analysis.publish import publish as write

    for path in write(_names(arguments.ids), arguments.scale):
        print(path)
    return FINE


def doctor(arguments: argparse.Namespace) -> int:
    from repro.harness.doctor import examine, print_findings
    from repro.harness.spec import results_dir
    from repro.harness.terminal import print_json

    findings = examine(results_dir())
    if arguments.json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        print_findings(findings)
    return NEGATIVE if any(finding.level == "fail" for finding in findings) else FINE


def _names(references: Sequence[str]) -> list[str]:
    """Experiment ids of words such as `F7:both` and `all`."""
    from repro.harness.spec import select

    return [experiment.id for experiment, _ in select(references)]


def _plan(arguments: argparse.Namespace) -> Plan:
    from repro.harness.clusters import load_cluster
    from repro.harness.plan import plan as make_plan
    from repro.harness.spec import results_dir

    load_cluster(arguments.cluster)
    return make_plan(arguments.ids, arguments.scale, arguments.seeds, results_dir())


def _dispatch(planned: Sequence[PlannedRun], arguments: argparse.Namespace) -> Outcome:
    from repro.harness.clusters import load_cluster
    from repro.harness.local import dispatch
    from repro.harness.spec import results_dir

    cluster = load_cluster(arguments.cluster)
    workers = arguments.workers or cluster.workers or None
    return dispatch(planned, results_dir() / "runs", workers, cluster.threads or None)


def _report(outcome: Outcome) -> int:
    """Say what did not end well and what to do about it; the exit code."""
    from repro.harness.terminal import count

    if outcome.interrupted:
        stopped = count(len(outcome.interrupted), "run")
        print(f"{stopped} interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    for folder in outcome.cancelled:
        print(f"{folder.path.name} was cancelled; repro retry {folder.id}", file=sys.stderr)
    for folder in outcome.failed:
        print(f"{folder.path.name} failed; repro logs {folder.id}", file=sys.stderr)
    return NEGATIVE if outcome.failed or outcome.cancelled else FINE


def _print_tables(names: Sequence[str], scale: str, fmt: str) -> None:
    from analysis.tables import render_table

    for name in names:
        print(render_table(name, scale, fmt).rstrip("\n"))


def _draw_figures(names: Sequence[str], scale: str, formats: Sequence[str]) -> None:
    from analysis.figures import draw_figure
    from repro.harness.spec import results_dir

    folder = results_dir() / "figures" / scale
    for name in names:
        for path in draw_figure(name, scale, formats, folder):
            print(path)
