"""`repro why-new`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_json, add_scale

HELP = "which settings make two runs two, or a row new that was run before"
EXAMPLE = "repro why-new T7:r2"


def add(parser: argparse.ArgumentParser) -> None:
    text = "a run (id, name, glob), or a row as its file has it now (T7:r2)"
    parser.add_argument("one", metavar="A", help=text)
    text = "the other; of a row alone, the run that was made for it before"
    parser.add_argument("other", nargs="?", metavar="B", help=text)
    add_scale(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of a row (default: 0)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.comparison.reasons import reasons
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    found = reasons(arguments.one, arguments.other, arguments.scale, arguments.seed, results_dir())
    if arguments.json:
        print_json(found.as_json())
    else:
        print(*found.lines(), sep="\n")
    return FINE
