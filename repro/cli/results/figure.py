"""`repro figure`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from repro.cli.exit_codes import FINE
from repro.cli.options import add_evidence, add_scale, evidence_of, say_which

if TYPE_CHECKING:
    from analysis.evidence.evidence import Evidence

HELP = "the paper's figure from our runs, as files; collapse RUN... overlays any runs"
EXAMPLE = "repro figure F7 --format pdf"
FORMATS = ("png", "svg")  # where --format does not say


def add(parser: argparse.ArgumentParser) -> None:
    text = "T7, all, scorecard; or collapse and runs: folder, ID, rows, run id or glob"
    parser.add_argument("ids", nargs="+", metavar="ID", help=text)
    add_scale(parser)
    add_evidence(parser)
    parser.add_argument("--format", choices=(*FORMATS, "pdf"), help="default: png and svg")


def run(arguments: argparse.Namespace) -> int:
    formats = [arguments.format] if arguments.format else FORMATS
    from analysis.evidence.sources import Source
    from analysis.figures.draw import COLLAPSE, asked_for, draw_collapse

    if arguments.ids[0] == COLLAPSE:
        source = Source(arguments.evidence) if arguments.evidence else None
        for line in draw_collapse(arguments.ids[1:], source, formats):
            print(line)
        return FINE
    names = asked_for(arguments.ids)
    evidence = evidence_of(arguments, names)
    draw_figures(arguments.ids, evidence, formats)
    say_which(evidence, arguments, asked=names)
    return FINE


def draw_figures(names: Sequence[str], evidence: Evidence, formats: Sequence[str]) -> None:
    """Draw them and print where they lie."""
    from analysis.figures.draw import draw

    for line in draw(names, evidence, formats):
        print(line)
