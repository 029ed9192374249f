"""`repro table`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

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
if TYPE_CHECKING:
    from analysis.evidence.evidence import Evidence

FORMATS = ("terminal", "md", "tex", "csv", "html")


def add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    add_scale(parser)
    add_evidence(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default="terminal", help="default: %(default)s"
    )


def run(arguments: argparse.Namespace) -> int:
    names = experiments_of(arguments.ids)
    evidence = evidence_of(arguments, names)
    print_tables(names, evidence, arguments.format)
    say_which(evidence, arguments)
    return FINE


def print_tables(names: list[str], evidence: Evidence, table_format: str) -> None:
    from analysis.tables.formats import render_tables

    for text in render_tables(names, evidence, table_format):
        print(text.rstrip("\n"))
