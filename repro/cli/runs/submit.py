"""`repro submit`."""

from __future__ import annotations

import argparse

from repro.cli import options
from repro.cli.exit_codes import FINE
from repro.cli.experiments.plan import batch_script, plan_of, unasked_of
from repro.cli.runs.cancel import ask_and_cancel, can_stop
from repro.cli.runs.start import check_budget, declare, start

HELP = "plan, confirm, train and evaluate what is missing; safe to repeat"
EXAMPLE = "repro submit T7 --scale laptop --seeds 3 --yes"


def add(parser: argparse.ArgumentParser) -> None:
    options.add_ids(parser)
    options.add_grid(parser)
    options.add_workers(parser)
    options.add_budget(parser)
    options.add_script(parser)
    options.add_report(parser)
    text = "cancel first what waits or runs here and serves no row of ID any more"
    parser.add_argument("--reconcile", action="store_true", help=text)
    options.add_yes(parser, "do not ask")


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.experiments.plan_table import print_plan, print_unasked
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.forecast import forecast
    from repro.terminal import confirm, count

    cluster = load_cluster(arguments.cluster)
    planned = plan_of(arguments, cluster)
    if arguments.script:
        print(batch_script(planned, cluster))
        return FINE
    print_plan(planned, forecast(planned, cluster, results_dir(), arguments.workers))
    folders, seen = unasked_of(arguments)
    print_unasked(folders, seen, arguments.scale)
    code = FINE
    active = [folder for folder in folders if can_stop(seen.views[folder.id])]
    if arguments.reconcile and active:
        code = ask_and_cancel(active, seen.views, arguments.yes)
    if not planned.todo and not planned.to_evaluate:
        declare(planned.runs)
        return code
    check_budget(planned, cluster, arguments.budget)
    parts = [count(len(planned.todo), "run")] if planned.todo else []
    parts += [count(len(planned.to_evaluate), "evaluation")] if planned.to_evaluate else []
    if not confirm(f"Start {' and '.join(parts)}?", arguments.yes):
        print("nothing started")
        return code
    return start(planned.runs, cluster, arguments.workers, arguments.report) or code
