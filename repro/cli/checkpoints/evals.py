"""`repro evals`."""

from __future__ import annotations

import argparse
import sys

from repro.cli.exit_codes import FINE
from repro.cli.options import add_json

HELP = "what was evaluated: which weights on which data, numbers, when, by which code"
EXAMPLE = "repro evals birds knn --sort knn_20"


def add(parser: argparse.ArgumentParser) -> None:
    text = "all of which stand in a file, digest, run id, data, protocol or commit; default: all"
    parser.add_argument("words", nargs="*", metavar="WORD", help=text)
    text = "when (default), weights, data, protocol, code, or a number (largest first)"
    parser.add_argument("--sort", default="when", metavar="KEY", help=text)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.comparison.evaluated import as_json, chosen, evaluated, table
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import count, print_json, print_table

    found, notes = evaluated(results_dir())
    shown = chosen(found, arguments.words, arguments.sort)
    if arguments.json:
        print_json({"evaluations": as_json(shown), "notes": notes})
        return FINE
    if shown:
        print_table("", *table(shown))
    print(count(len(shown), "evaluation"))
    for note in notes:
        print(note, file=sys.stderr)
    return FINE
