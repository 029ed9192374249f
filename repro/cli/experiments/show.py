"""`repro show`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_ids, add_json

HELP = "an experiment's rows and claims"
EXAMPLE = "repro show T7"


def add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.experiments.details import details, print_details
    from repro.harness.experiments.experiment import select
    from repro.terminal import print_json

    selection = select(arguments.ids)
    if arguments.json:
        shown = [details(experiment, rows) for experiment, rows in selection]
        print_json(shown[0] if len(shown) == 1 else shown)
        return FINE
    for experiment, rows in selection:
        print_details(experiment, rows)
    return FINE
