"""`repro publish`."""

from __future__ import annotations

import argparse
import sys

from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import add_ids, add_scale, experiments_of

HELP = "write records, tables and figures to results/published/"
EXAMPLE = "repro publish F7 F6R --scale laptop"


def add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    add_scale(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.publish import publish

    published = publish(experiments_of(arguments.ids), arguments.scale)
    for path in published.written:
        print(path)
    for why in published.refused:
        print(f"not published: {why}", file=sys.stderr)
    return NEGATIVE if published.refused else FINE
