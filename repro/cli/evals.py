"""What `repro eval` and `repro export` do; `repro/cli/parser.py` holds the parser.

Like `repro/cli/results.py`: a function from parsed arguments to an exit code, with its own imports.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from repro.cli.results import FINE, NEGATIVE
from repro.errors import UserError

ATTENTION, FEATURES = "attention", "features"


def evaluate(arguments: argparse.Namespace) -> int:
    """One protocol on checkpoints, here and now; a run without --data is evaluated on its own."""
    if arguments.image or arguments.video:
        return _draw_attention(arguments)
    if arguments.protocol == FEATURES:
        return _draw_features(arguments)
    from repro.harness.evaluation.any_checkpoint import (
        Asked,
        evaluate_run,
        evaluate_weights,
        run_folder,
    )
    from repro.harness.evaluation.names import THROUGHPUT
    from repro.harness.evaluation.stage import in_words
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import results_dir

    fine, protocol, epochs = True, arguments.protocol, arguments.epochs
    data = arguments.data or ""
    for word in arguments.weights:
        folder = run_folder(Path(word))
        if folder is not None and not (data or arguments.network):
            if folder.result() is None:
                raise UserError(f"--weights {word}: {folder.path.name} is not done; repro status")
            print(folder.path.name)
            fine &= evaluate_run(folder, protocol, load_cluster("local"), epochs)
            continue
        if not data and protocol != THROUGHPUT:
            raise UserError(f"--weights {word}: say on which images: --data NAME=PATH")
        asked = Asked(Path(word), arguments.network, arguments.heads)
        metrics, path = evaluate_weights(asked, data, protocol, results_dir(), epochs)
        print(f"{word}: {in_words(metrics)}")
        print(path)
    return FINE if fine else NEGATIVE


def export(arguments: argparse.Namespace) -> int:
    from repro.harness.evaluation.any_checkpoint import Asked
    from repro.harness.evaluation.any_checkpoint import export as write

    asked = Asked(Path(arguments.weights), arguments.network, arguments.heads)
    for path in write(asked, Path(arguments.target)):
        print(path)
    return FINE


def _draw_attention(arguments: argparse.Namespace) -> int:
    """Head maps and masks of pictures, mean maps of videos."""
    if arguments.protocol != ATTENTION:
        raise UserError("--image, --video: only repro eval attention draws pictures and videos")
    from repro.distributed import choose_device
    from repro.evals.attention_pictures import default_side, draw_picture, draw_video
    from repro.harness.evaluation.any_checkpoint import Asked, open_weights

    device = choose_device("auto")
    for word in arguments.weights:
        weights = open_weights(Asked(Path(word), arguments.network, arguments.heads))
        backbone = weights.backbone.to(device)
        side = arguments.side or default_side(weights.image_size)
        folder = _out(arguments) / weights.digest
        for image in arguments.image or ():
            for path in draw_picture(backbone, Path(image), side, folder, device)[:1]:
                print(path)
        for video in arguments.video or ():
            print(draw_video(backbone, Path(video), side, folder, device))
    return FINE


def _draw_features(arguments: argparse.Namespace) -> int:
    """t-SNE of class means and of images."""
    from repro.harness.evaluation.any_checkpoint import Asked, draw_features

    for word in arguments.weights:
        asked = Asked(Path(word), arguments.network, arguments.heads)
        for path in draw_features(asked, arguments.data or "", _out(arguments)):
            print(path)
    return FINE


def _out(arguments: argparse.Namespace) -> Path:
    from repro.harness.experiments.folders import results_dir

    return Path(arguments.out) if arguments.out else results_dir() / "figures"
