"""`repro verify`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import add_scale

HELP = "published records, tables and figures against one another; exit code 1 if one was edited"
EXAMPLE = "repro verify --quick"


def add(parser: argparse.ArgumentParser) -> None:
    add_scale(parser)
    text = "seals, records and tables; figures are not drawn again"
    parser.add_argument("--quick", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> int:
    from analysis.verify import verify

    found = verify(arguments.scale, figures=not arguments.quick)
    for line in found.wrong:
        print(line)
    for line in found.right:
        print(f"fine: {line}")
    return NEGATIVE if found.wrong else FINE
