"""`repro explain`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_evidence, add_json, add_scale, evidence_of, say_which

HELP = "from a printed number or a claim to its runs, config, verdict, and what would turn it"
EXAMPLE = "repro explain T7:r2:knn"


def add(parser: argparse.ArgumentParser) -> None:
    text = "a cell of a table or figure (ID:ROW:METRIC), a row (ID:ROW), or a claim (C.T7.4)"
    parser.add_argument("address", metavar="CELL|ROW|CLAIM", help=text)
    add_scale(parser)
    add_evidence(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.explain import asked_about, explain
    from analysis.explained import lines_of
    from repro.terminal import print_json, terminal_width

    evidence = evidence_of(arguments, asked_about(arguments.address))
    explanation = explain(arguments.address, evidence)
    say_which(evidence, arguments)
    if arguments.json:
        print_json(explanation)
        return FINE
    for line in lines_of(explanation, terminal_width()):
        print(line)
    return FINE
