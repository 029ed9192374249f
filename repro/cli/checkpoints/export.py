"""`repro export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from repro.cli.checkpoints.meant import meant
from repro.cli.exit_codes import FINE
from repro.cli.options import add_network
from repro.errors import UserError

HELP = "a backbone as safetensors for timm, with a card that says how it was made"
EXAMPLE = "repro export results/runs/F7-both-laptop-s0-1a2b3c4d5e dino.safetensors"


def add(parser: argparse.ArgumentParser) -> None:
    text = "a run (folder, id, name) or a checkpoint, as for eval"
    parser.add_argument("weights", metavar="FILE", help=text)
    text = "where to; the card lies beside it"
    parser.add_argument("target", metavar="OUT.safetensors", help=text)
    add_network(parser)


def run(arguments: argparse.Namespace) -> int:
    from repro.harness.evaluation.any_checkpoint import ChosenWeights, export

    found = meant([arguments.weights])
    if len(found) > 1:
        named = ", ".join(path.name for path in found[:4])
        raise UserError(f"'{arguments.weights}' means {len(found)} runs ({named}); name one")
    chosen = ChosenWeights(found[0], arguments.network, arguments.heads)
    for path in export(chosen, Path(arguments.target)):
        print(path)
    return FINE
