"""`repro report`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_evidence, add_scale, evidence_of, say_which

HELP = "everything as one self-contained HTML page: scorecard, tables, figures, provenance"
EXAMPLE = "repro report --scale laptop"


def add(parser: argparse.ArgumentParser) -> None:
    add_scale(parser)
    add_evidence(parser)
    text = "where to (default: results/report/SCALE.html)"
    parser.add_argument("--out", metavar="PATH", default="", help=text)


def run(arguments: argparse.Namespace) -> int:
    from analysis.report.page import write

    evidence = evidence_of(arguments, ())
    print(write(evidence, arguments.out))
    say_which(evidence, arguments)
    return FINE
