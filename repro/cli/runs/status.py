"""`repro status`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_json, add_patterns

HELP = "how runs are: a board in the paper's layout, its numbers, failures by cause"
EXAMPLE = "repro status T7 --watch"


def add(parser: argparse.ArgumentParser) -> None:
    add_patterns(parser)
    text = "again and again until nothing is running"
    parser.add_argument("--watch", action="store_true", help=text)
    text = "seconds between two looks (default: %(default)g)"
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help=text)
    parser.add_argument("--runs", action="store_true", help="a line a run instead of the board")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.runs import status_board
    from repro.cli.runs.look import look
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    results = results_dir()
    if arguments.json:
        at = look(arguments.patterns, results)
        cells = [cell for one in status_board.numbers(at).values() for cell in one.cells]
        print_json({"runs": at.entries, "notes": list(at.overview.notes), "cells": cells})
    elif arguments.watch:
        status_board.watch(arguments.patterns, results, arguments.every, arguments.runs)
    else:
        status_board.show(arguments.patterns, results, arguments.runs)
    return FINE
