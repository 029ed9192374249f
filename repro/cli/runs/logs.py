"""`repro logs`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_patterns, positive

HELP = "the end of runs' logs"
EXAMPLE = "repro logs T7:r2 --follow"


def add(parser: argparse.ArgumentParser) -> None:
    add_patterns(parser)
    text = "go on printing until they have ended"
    parser.add_argument("-f", "--follow", action="store_true", help=text)
    text = "lines of each (default: %(default)s)"
    parser.add_argument("-n", "--lines", type=positive, default=20, metavar="N", help=text)
    text = "all of the Nth start instead (runs start again after preemption)"
    parser.add_argument("--attempt", type=positive, metavar="N", help=text)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.runs.run_log import follow, print_log
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
