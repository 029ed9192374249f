"""Pictures that `repro eval` draws: attention maps of pictures and videos, a space of features."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from repro.errors import UserError

ATTENTION, FEATURES = "attention", "features"


def draw_attention(arguments: argparse.Namespace, weights: Sequence[Path]) -> None:
    """Head maps and masks of pictures, mean maps of videos."""
    if arguments.protocols != [ATTENTION]:
        raise UserError("--image, --video: only repro eval attention draws pictures and videos")
    from repro.distributed import open_device
    from repro.evals.attention_pictures import default_side, draw_picture, draw_video
    from repro.harness.evaluation.any_checkpoint import (
        ChosenWeights,
        open_weights,
        run_folder,
        short_digest,
    )

    device = open_device("auto")
    for path in weights:
        opened = open_weights(ChosenWeights(path, arguments.network, arguments.heads))
        backbone = opened.backbone.to(device)
        side = arguments.side or default_side(opened.image_size)
        how = (opened.network, opened.model.heads, side)
        run = run_folder(path)
        whose = f"{run.path.name if run else path.stem}-{opened.digest}"

        def folder(picture: str, own: str = whose, how: tuple[object, ...] = how) -> Path:
            """Its own for each folder of pictures and each way to look at them."""
            seen_from = short_digest(*how, Path(picture).resolve().parent)
            return _pictures_folder(arguments) / f"{own}-{seen_from}"

        for image in arguments.image:
            for drawn in draw_picture(backbone, Path(image), side, folder(image), device)[:1]:
                print(drawn)
        for video in arguments.video:
            print(draw_video(backbone, Path(video), side, folder(video), device))


def draw_spaces(arguments: argparse.Namespace, weights: Sequence[Path]) -> None:
    """t-SNE of class means and of images."""
    from repro.harness.evaluation.any_checkpoint import ChosenWeights, draw_features

    for path in weights:
        chosen = ChosenWeights(path, arguments.network, arguments.heads)
        for data in arguments.data or [""]:
            for drawn in draw_features(chosen, data, _pictures_folder(arguments), arguments.side):
                print(drawn)


def _pictures_folder(arguments: argparse.Namespace) -> Path:
    from repro.harness.experiments.folders import results_dir

    return Path(arguments.out) if arguments.out else results_dir() / "figures"
