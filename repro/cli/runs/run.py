"""`repro run`."""

from __future__ import annotations

import argparse

from repro.cli import options
from repro.cli.exit_codes import INTERRUPTED
from repro.cli.experiments.plan import plan_of
from repro.cli.results.figure import FORMATS, draw_figures
from repro.cli.results.table import print_tables
from repro.cli.runs.start import check_budget, start

HELP = "train what is missing, then print the table and draw the figure"
EXAMPLE = "repro run F7:both,centering T7:r1,r2 --scale laptop"


def add(parser: argparse.ArgumentParser) -> None:
    options.add_ids(parser)
    options.add_grid(parser)
    options.add_workers(parser)
    options.add_budget(parser)
    options.add_report(parser)
    options.add_yes(parser, "as for submit; run never asks")


def run(arguments: argparse.Namespace) -> int:
    from analysis.evidence.evidence import load_evidence
    from analysis.evidence.sources import Source
    from repro.cli.experiments.plan_table import print_plan
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.forecast import forecast
    from repro.harness.runs.store import find_runs

    cluster = load_cluster(arguments.cluster)
    planned = plan_of(arguments, cluster)
    print_plan(planned, forecast(planned, cluster, results_dir(), arguments.workers))
    check_budget(planned, cluster, arguments.budget)
    code = start(planned.runs, cluster, arguments.workers, arguments.report, wait=True)
    if code == INTERRUPTED:
        return code
    names = options.experiments_of(arguments.ids)
    evidence = load_evidence(arguments.scale, Source.own)
    print_tables(names, evidence, "terminal")
    done = {f.id for f in find_runs(results_dir() / "runs") if f.result() is not None}
    served = {name for run in planned.runs if run.id in done for name, _ in run.serves}
    draw_figures([name for name in names if name in served], evidence, FORMATS)
    return code
