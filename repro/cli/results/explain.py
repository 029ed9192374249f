"""`repro explain`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.cli.options import add_evidence, add_json, add_scale, evidence_of, say_which

HELP = "from a printed number or a claim to its runs, config, verdict, and what would turn it"
EXAMPLE = "repro explain T7:r2:knn"


def add(parser: argparse.ArgumentParser) -> None:
    text = "a cell of a table or figure (ID:ROW:METRIC), a row (ID:ROW), a claim (C.T7.4) or a run"
    parser.add_argument("address", metavar="CELL|ROW|CLAIM|RUN", help=text)
    add_scale(parser)
    add_evidence(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.comparison import explained_run
    from analysis.explain import asked_about, explain
    from analysis.explained import lines_of
    from repro.terminal import print_json, terminal_width

    if own := explained_run.meant(arguments.address):
        told = explained_run.explain_run(*own)
        if arguments.json:
            print_json(told)
        else:
            print(*explained_run.lines_of(told), sep="\n")
        return FINE
    names = asked_about(arguments.address)
    evidence = evidence_of(arguments, names)
    explanation = explain(arguments.address, evidence)
    say_which(evidence, arguments, asked=names)
    if arguments.json:
        print_json(explanation)
        return FINE
    for line in lines_of(explanation, terminal_width()):
        print(line)
    return FINE
