"""`repro list`."""

from __future__ import annotations

import argparse
import sys

from repro.cli.exit_codes import FINE
from repro.cli.options import add_json

HELP = "experiments, rows, what is done"
EXAMPLE = "repro list"


def add(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.experiments.listing import listing, print_listing, published_faults
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    results = results_dir()
    (print_json if arguments.json else print_listing)(listing(results))
    for fault in published_faults(results):
        print(fault, file=sys.stderr)
    return FINE
