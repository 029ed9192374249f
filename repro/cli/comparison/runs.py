"""`repro runs`."""

from __future__ import annotations

import argparse
import sys

from repro.cli.exit_codes import FINE
from repro.cli.options import add_json, add_patterns

HELP = "the runs that are here: numbers, and what tells each from the others"
EXAMPLE = "repro runs train --sort knn"


def add(parser: argparse.ArgumentParser) -> None:
    add_patterns(parser)
    text = (
        "a metric (largest first), a setting (teacher.momentum), name, state, sentinel, seed or "
        "created (default)"
    )
    parser.add_argument("--sort", default="created", metavar="KEY", help=text)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.comparison.listing import as_json, described, in_order, table
    from repro.cli.runs.look import nothing_here
    from repro.harness.experiments.folders import results_dir
    from repro.harness.status.find import find
    from repro.terminal import count, print_json, print_table, print_text

    folders, seen = find(arguments.patterns, results_dir())
    runs, notes = described(folders, seen)
    if runs:
        runs = in_order(runs, arguments.sort)
    if arguments.json:
        print_json({"runs": as_json(runs), "notes": notes})
        return FINE
    if runs:
        print_table("", *table(runs))
    print_text(count(len(runs), "run") if runs else nothing_here(results_dir()))
    for note in notes:
        print(note, file=sys.stderr)
    return FINE
