"""`repro eval`: protocols on any checkpoints, or a picture of what their features show."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.checkpoints.drawing import FEATURES, draw_attention, draw_spaces
from repro.cli.checkpoints.meant import meant
from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import add_json, add_network, positive
from repro.errors import UserError
from repro.harness.evaluation.names import PROTOCOLS

if TYPE_CHECKING:
    from repro.harness.evaluation.any_checkpoint import ChosenWeights
    from repro.harness.evaluation.several import Asked

HELP = "evaluation protocols on any checkpoints, here and now"
EXAMPLE = "repro eval knn --weights dino_deitsmall16_pretrain.pth --data birds=/data/birds"
FORMATS = ("terminal", "md", "tex", "csv")


def add(parser: argparse.ArgumentParser) -> None:
    choices = (*PROTOCOLS, FEATURES)
    parser.add_argument(
        "protocols", nargs="+", choices=choices, metavar="PROTOCOL", help=_protocols()
    )
    text = (
        "run folders, ids, names or globs; checkpoints, the authors' files, timm's (.pth, "
        ".safetensors), timm:NAME; several give one table"
    )
    parser.add_argument("--weights", nargs="+", required=True, metavar="FILE", help=text)
    text = (
        "PATH/train/CLASS/*, PATH/val/CLASS/*; benchmarks: voc12, davis17, roxford5k, rparis6k, "
        "copydays; made here: photographs, composites, clips, crops, copies; several may be given "
        "(default: the run's)"
    )
    parser.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="NAME=PATH", help=text
    )
    text = "with --data: leave unreadable images out, and count them"
    parser.add_argument("--skip-unreadable", action="store_true", help=text)
    text = "of linear probes or finetuning (default: those of the scale; the paper's 100 and 300)"
    parser.add_argument("--epochs", type=positive, default=0, metavar="N", help=text)
    text = "in the table, below each checkpoint, how far it is from the first on the same images"
    parser.add_argument("--paired", action="store_true", help=text)
    text = "of the table: %(choices)s (default: terminal)"
    parser.add_argument("--format", choices=FORMATS, default="", metavar="F", help=text)
    add_json(parser)
    text = "attention: draw its heads' maps and masks (several may be given)"
    parser.add_argument("--image", nargs="+", default=[], metavar="FILE", help=text)
    text = "attention: a video file or a folder of frames, with its map beside each frame"
    parser.add_argument("--video", nargs="+", default=[], metavar="PATH", help=text)
    text = (
        "pixels of the images that a protocol shows, with --data (default: the network's own), or "
        "of the shorter side of drawn pictures (default: 480 for networks trained at 224)"
    )
    parser.add_argument("--side", type=positive, default=0, metavar="N", help=text)
    text = "folder of pictures (default: results/figures)"
    parser.add_argument("--out", metavar="FOLDER", help=text)
    add_network(parser)


def run(arguments: argparse.Namespace) -> int:
    weights = meant(arguments.weights)
    if arguments.image or arguments.video:
        draw_attention(arguments, weights)
        return FINE
    code = FINE
    if arguments.protocols != [FEATURES]:
        code = _evaluate(arguments, weights)
    if FEATURES in arguments.protocols:
        draw_spaces(arguments, weights)
    return code


def _protocols() -> str:
    about = {name: protocol.about for name, protocol in PROTOCOLS.items()}
    about[FEATURES] = "a t-SNE picture of class means and images"
    return "; ".join(f"{name}: {what}" for name, what in about.items()).replace("%", "%%")


def _evaluate(arguments: argparse.Namespace, weights: Sequence[Path]) -> int:
    from repro.harness.evaluation.any_checkpoint import ChosenWeights
    from repro.harness.evaluation.names import THROUGHPUT
    from repro.harness.evaluation.several import Asked, of_its_own

    protocols = [name for name in dict.fromkeys(arguments.protocols) if name != FEATURES]
    asked = Asked(
        protocols, arguments.data, arguments.epochs, arguments.side, arguments.skip_unreadable
    )
    chosen = [ChosenWeights(path, arguments.network, arguments.heads) for path in weights]
    for one in chosen:
        if of_its_own(one, asked):
            if arguments.side:
                raise UserError("--side: a run is evaluated on its own images at its own size")
        elif not asked.data and protocols != [THROUGHPUT]:
            lost = "" if one.path.exists() or one.network else "no such file, and no such run; "
            raise UserError(f"--weights {one.path}: {lost}say on which images: --data NAME=PATH")
    as_table = arguments.json or arguments.format or arguments.paired
    if len(protocols) == len(chosen) == 1 and len(asked.data) <= 1 and not as_table:
        return _one(chosen[0], asked)
    return _table(arguments, chosen, asked)


def _one(chosen: ChosenWeights, asked: Asked) -> int:
    """One protocol on one checkpoint; a run without --data is evaluated on its own."""
    from repro.harness.evaluation.answers import Frozen
    from repro.harness.evaluation.any_checkpoint import ask_run, run_folder
    from repro.harness.evaluation.several import of_its_own, pairs
    from repro.harness.evaluation.stage import evaluate, in_words
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import results_dir

    folder = run_folder(chosen.path)
    if of_its_own(chosen, asked) and folder is not None:
        print(folder.path.name)
        names = ask_run(folder, asked.protocols[0], load_cluster("local"), asked.epochs)
        return FINE if evaluate(folder, again=names) else NEGATIVE
    (images,) = pairs(asked)
    answer = Frozen(chosen, results_dir(), asked.side, asked.skip_unreadable).answer(images)
    print(f"{chosen.path}: {in_words(answer.metrics())}")
    print(answer.path)
    if answer.kept:
        print("kept from before; without that file it is measured again", file=sys.stderr)
    elif answer.why:
        print(f"measured again: {answer.why}", file=sys.stderr)
    return FINE


def _table(arguments: argparse.Namespace, chosen: Sequence[ChosenWeights], asked: Asked) -> int:
    """All that is asked of all checkpoints, in one table."""
    from analysis.comparison.checkpoints import as_json, described, written
    from repro.harness.evaluation.several import evaluate_all
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with redirect_stdout(sys.stderr):  # where protocols tell how far they are
        outcomes = evaluate_all(chosen, asked, results_dir(), say)
    lines = described(outcomes)
    if arguments.json:
        print_json(as_json(lines))
    else:
        print(written(lines, arguments.format or "terminal", arguments.paired).rstrip("\n"))
    failed = [outcome for outcome in outcomes if outcome.failed]
    for name, why in dict.fromkeys((one.checkpoint, one.failed) for one in failed):
        what = [
            f"{o.protocol} {o.data}".strip()
            for o in failed
            if (o.checkpoint, o.failed) == (name, why)
        ]
        say(f"failed: {name} ({', '.join(what)}): {why}")
    return NEGATIVE if failed else FINE
