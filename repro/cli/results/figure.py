"""`repro figure`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from repro.cli.exit_codes import FINE
from repro.cli.options import add_scale

HELP = "the paper's figure from our runs, as files; collapse RUN... overlays any runs"
EXAMPLE = "repro figure F7 --format pdf"
FORMATS = ("png", "svg")  # where --format does not say


def add(parser: argparse.ArgumentParser) -> None:
    text = "T7, all, scorecard, parity; or collapse and runs: folder, ID, rows, run id or glob"
    parser.add_argument("ids", nargs="+", metavar="ID", help=text)
    add_scale(parser)
    parser.add_argument("--format", choices=(*FORMATS, "pdf"), help="default: png and svg")


def run(arguments: argparse.Namespace) -> int:
    formats = [arguments.format] if arguments.format else FORMATS
    draw_figures(arguments.ids, arguments.scale, formats)
    return FINE


def draw_figures(names: Sequence[str], scale: str, formats: Sequence[str]) -> None:
    """Draw them and print where they lie."""
    from analysis.figures.draw import draw

    for line in draw(names, scale, formats):
        print(line)
