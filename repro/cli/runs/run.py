"""`repro run`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli import options
from repro.cli.exit_codes import INTERRUPTED
from repro.cli.experiments.plan import plan_of
from repro.cli.results.figure import FORMATS
from repro.cli.runs.start import check_budget, start

if TYPE_CHECKING:
    from analysis.evidence.evidence import Evidence
    from repro.harness.experiments.experiment import Experiment, Row

HELP = "train what is missing, then say what came out, with its table and figure"
EXAMPLE = "repro run F7:both,centering T7:r1,r2 --scale laptop"


def add(parser: argparse.ArgumentParser) -> None:
    options.add_ids(parser)
    options.add_grid(parser)
    options.add_workers(parser)
    options.add_budget(parser)
    options.add_report(parser)
    options.add_yes(parser, "as for submit; run never asks")
    text = "what came out with the notes, and the evidence behind every claim"
    parser.add_argument("-v", "--verbose", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> int:
    from analysis.evidence.evidence import load_evidence
    from analysis.evidence.sources import Source
    from analysis.figures.draw import draw
    from repro.cli.experiments.plan_table import print_plan
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.experiment import experiment_ids, select
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
    evidence = load_evidence(arguments.scale, Source.own)
    selection = select(arguments.ids)
    say_what_came_out(selection, evidence, arguments.verbose)
    done = {f.id for f in find_runs(results_dir() / "runs") if f.is_done()}
    served = {name for run in planned.runs if run.id in done for name, _ in run.serves}
    drawn = [one.id for one, _ in selection if one.id in served]
    if drawn:
        print(f"figures: {one_line(draw(drawn, evidence, FORMATS))}")
    paper = experiment_ids()
    if any(experiment.id in paper for experiment, _ in selection):
        print(f"everything on one page: repro report --scale {arguments.scale}")
    return code


def say_what_came_out(
    selection: Sequence[tuple[Experiment, Sequence[Row]]], evidence: Evidence, verbose: bool
) -> None:
    """Three sentences, then the tables of the rows that were asked for and have runs."""
    from analysis.tables.table import build
    from analysis.tables.terminal import terminal
    from analysis.verdicts.in_words import in_words
    from repro.terminal import print_text

    print()
    for sentence in in_words([experiment for experiment, _ in selection], evidence):
        print_text(sentence)
    print()
    for experiment, rows in selection:
        made = {row.name for row in rows if evidence.of(experiment, row).all_runs}
        if made:
            printed = build(experiment, evidence)
            lines = tuple(line for line in printed.lines if line.row in made)
            print(terminal(replace(printed, lines=lines), verbose, claims=verbose))


def one_line(paths: Iterable[str]) -> str:
    """The first in full, then the names of those in its folder."""
    files = [Path(path) for path in paths]
    return " ".join([str(files[0]), *(file.name for file in files[1:])])
