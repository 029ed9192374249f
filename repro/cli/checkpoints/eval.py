"""`repro eval`: one protocol on any checkpoint, or a picture of what its features show."""

from __future__ import annotations

import argparse
from pathlib import Path

from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import add_network, positive
from repro.errors import UserError
from repro.harness.evaluation.names import PROTOCOLS

HELP = "one evaluation protocol on any checkpoint, here and now"
EXAMPLE = "repro eval knn --weights dino_deitsmall16_pretrain.pth --data birds=/data/birds"
ATTENTION, FEATURES = "attention", "features"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", choices=(*PROTOCOLS, FEATURES), help=_protocols())
    text = "run folders or checkpoints, the authors' files, timm's (.pth, .safetensors), timm:NAME"
    parser.add_argument("--weights", nargs="+", required=True, metavar="FILE", help=text)
    text = (
        "PATH/train/CLASS/*, PATH/val/CLASS/*; benchmarks: voc12, davis17, roxford5k, rparis6k, "
        "copydays; made here: photographs, composites, clips, crops, copies (default: the run's)"
    )
    parser.add_argument("--data", default="", metavar="NAME=PATH", help=text)
    text = "with --data: leave unreadable images out, and count them"
    parser.add_argument("--skip-unreadable", action="store_true", help=text)
    text = "of linear probes or finetuning (default: those of the scale; the paper's 100 and 300)"
    parser.add_argument("--epochs", type=positive, default=0, metavar="N", help=text)
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
    if arguments.image or arguments.video:
        return _draw_attention(arguments)
    if arguments.protocol == FEATURES:
        return _draw_features(arguments)
    return _evaluate(arguments)


def _protocols() -> str:
    about = {name: protocol.about for name, protocol in PROTOCOLS.items()}
    about[FEATURES] = "a t-SNE picture of class means and images"
    return "; ".join(f"{name}: {what}" for name, what in about.items()).replace("%", "%%")


def _evaluate(arguments: argparse.Namespace) -> int:
    """One protocol on checkpoints; a run without --data is evaluated on its own."""
    from repro.harness.evaluation.any_checkpoint import (
        ChosenWeights,
        evaluate_run,
        evaluate_weights,
        run_folder,
    )
    from repro.harness.evaluation.names import THROUGHPUT
    from repro.harness.evaluation.stage import in_words
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import results_dir

    fine, protocol, data, epochs = True, arguments.protocol, arguments.data, arguments.epochs
    for word in arguments.weights:
        folder = run_folder(Path(word))
        if folder is not None and not (data or arguments.network):
            if folder.result() is None:
                raise UserError(f"--weights {word}: {folder.path.name} is not done; repro status")
            if arguments.side:
                raise UserError("--side: a run is evaluated on its own images at its own size")
            print(folder.path.name)
            fine &= evaluate_run(folder, protocol, load_cluster("local"), epochs)
            continue
        if not data and protocol != THROUGHPUT:
            raise UserError(f"--weights {word}: say on which images: --data NAME=PATH")
        chosen = ChosenWeights(Path(word), arguments.network, arguments.heads)
        metrics, path = evaluate_weights(
            chosen,
            data,
            protocol,
            results_dir(),
            epochs,
            arguments.side,
            arguments.skip_unreadable,
        )
        print(f"{word}: {in_words(metrics)}")
        print(path)
    return FINE if fine else NEGATIVE


def _draw_attention(arguments: argparse.Namespace) -> int:
    """Head maps and masks of pictures, mean maps of videos."""
    if arguments.protocol != ATTENTION:
        raise UserError("--image, --video: only repro eval attention draws pictures and videos")
    from repro.distributed import open_device
    from repro.evals.attention_pictures import default_side, draw_picture, draw_video
    from repro.harness.evaluation.any_checkpoint import ChosenWeights, open_weights, short_digest

    device = open_device("auto")
    for word in arguments.weights:
        weights = open_weights(ChosenWeights(Path(word), arguments.network, arguments.heads))
        backbone = weights.backbone.to(device)
        side = arguments.side or default_side(weights.image_size)
        how = (weights.network, weights.model.heads, side)

        def folder(picture: str, own: str = weights.digest, how: tuple[object, ...] = how) -> Path:
            """Its own for each folder of pictures and each way to look at them."""
            seen_from = short_digest(*how, Path(picture).resolve().parent)
            return _pictures_folder(arguments) / f"{own}-{seen_from}"

        for image in arguments.image:
            for path in draw_picture(backbone, Path(image), side, folder(image), device)[:1]:
                print(path)
        for video in arguments.video:
            print(draw_video(backbone, Path(video), side, folder(video), device))
    return FINE


def _draw_features(arguments: argparse.Namespace) -> int:
    """t-SNE of class means and of images."""
    from repro.harness.evaluation.any_checkpoint import ChosenWeights, draw_features

    for word in arguments.weights:
        chosen = ChosenWeights(Path(word), arguments.network, arguments.heads)
        out = _pictures_folder(arguments)
        for path in draw_features(chosen, arguments.data, out, arguments.side):
            print(path)
    return FINE


def _pictures_folder(arguments: argparse.Namespace) -> Path:
    from repro.harness.experiments.folders import results_dir

    return Path(arguments.out) if arguments.out else results_dir() / "figures"
