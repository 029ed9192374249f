"""`repro table`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_ids, add_scale, experiments_of

HELP = "the paper's table, our numbers beside the reported ones"
EXAMPLE = "repro table T7 --format tex"
FORMATS = ("terminal", "md", "tex", "csv", "html")


def add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    add_scale(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default="terminal", help="default: %(default)s"
    )


def run(arguments: argparse.Namespace) -> int:
    print_tables(experiments_of(arguments.ids), arguments.scale, arguments.format)
    return FINE


def print_tables(names: list[str], scale: str, table_format: str) -> None:
    from analysis.tables.formats import render_tables

    for text in render_tables(names, scale, table_format):
        print(text.rstrip("\n"))
