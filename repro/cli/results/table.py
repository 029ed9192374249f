"""`repro table`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import (
    add_evidence,
    add_ids,
    add_scale,
    evidence_of,
    experiments_of,
    say_which,
)

HELP = "the paper's table, our numbers beside the reported ones"
EXAMPLE = "repro table T7 --format tex"
FORMATS = ("terminal", "md", "tex", "csv", "html")


def add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    add_scale(parser)
    add_evidence(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default="terminal", help="default: %(default)s"
    )
    text = "below the table of a terminal its notes, and the evidence behind every claim"
    parser.add_argument("-v", "--verbose", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> int:
    from analysis.tables.formats import render_tables

    names = experiments_of(arguments.ids)
    evidence = evidence_of(arguments, names)
    for text in render_tables(names, evidence, arguments.format, arguments.verbose):
        print(text.rstrip("\n"))
    say_which(evidence, arguments, asked=names)
    return FINE
