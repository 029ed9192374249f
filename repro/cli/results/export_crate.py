"""`repro export-crate`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_scale

HELP = "published results as a research object (RO-Crate): files, and how each number was made"
EXAMPLE = "repro export-crate crate --scale laptop"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="where to: an empty folder, or a new one")
    add_scale(parser)


def run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from analysis.crate.export import export_crate
    from repro.terminal import count

    made = export_crate(Path(arguments.folder), arguments.scale)
    numbers = {
        "run": made.runs,
        "evaluation": made.evaluations,
        "replication": made.replications,
        "file": made.files,
    }
    print(made.metadata)
    print(", ".join(count(number, noun) for noun, number in numbers.items() if number))
    return FINE
