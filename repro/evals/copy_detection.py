"""Copy detection on Copydays' strong subset (Sec. 4.2.1, Table 4; the authors' script).

Features: the final-norm [CLS] token beside the GeM pooling (exponent 4) of the final-norm patch
tokens, images squeezed to squares; PCA whitening learned on other pictures; cosine. A query's
average precision is the area under its precision-recall line.

Two tiers. `official` as the authors' script: the covariance is of uncentred features, although the
mean is taken off queries and database, only the first 20 of a ranking count, and pixels are as
stored. `clean`: whitening of centred features, whole rankings, pictures upright.

Shapes: Q queries, N database images, B of a batch, S side, D width, F width of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from repro.data.copies import Copies
from repro.data.disk.orientation import upright
from repro.data.pictures import levels, picture, turned
from repro.data.views.kinds import normalise
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals.features.layers import last_blocks
from repro.evals.judged import Keep, forget
from repro.evals.retrieval import average_precision

GEM_POWER = 4
SIDE = 320  # pixels, the authors' default
MADE_SIDE = 64
COUNTED = 20  # places of a ranking that the authors' script looks at
BATCH = 16
SMALLEST = 1e-5  # share of the largest variance below which none may fall


@dataclass(frozen=True)
class Whitening:
    """x -> (x - mean) projected on the principal directions, each divided by its deviation."""

    mean_F: Tensor
    projection_FF: Tensor

    def apply(self, features: Tensor) -> Tensor:
        return (features - self.mean_F) @ self.projection_FF.T


def learn_whitening(features_NF: Tensor, centred: bool) -> Whitening:
    """PCA whitening; `centred`: of the covariance, else of the second moments (official).

    Raises:
        UserError: features that do not vary, which leave nothing to divide by.
    """
    features_NF = features_NF.double()
    mean_F = features_NF.mean(dim=0)
    if not bool((features_NF != features_NF[0]).any()):
        raise UserError(f"whitening: {len(features_NF)} picture(s), all alike; give others")
    deviations_NF = features_NF - mean_F if centred else features_NF
    moments_FF = deviations_NF.T @ deviations_NF / len(features_NF)
    variance_F, directions_FF = torch.linalg.eigh(moments_FF)
    variance_F = variance_F.clamp(min=float(variance_F.max()) * SMALLEST).flip(0)
    projection_FF = directions_FF.flip(1).T / variance_F.sqrt()[:, None]
    return Whitening(mean_F.float(), projection_FF.float())


@torch.no_grad()
def cls_and_gem(backbone: nn.Module, images: Tensor) -> Tensor:
    """[CLS] and GeM-pooled patch tokens of normalised images [B, 3, S, S]: [B, 2 D].

    Of a ResNet, its pooled features alone.
    """
    if not isinstance(backbone, DinoViT):
        features: Tensor = backbone(images)
        return features.float()
    ((cls_BD, patches_BPD),) = last_blocks(backbone, images)
    powers_BPD = patches_BPD.clamp(min=1e-6).pow(GEM_POWER)
    return torch.cat([cls_BD, powers_BPD.mean(dim=1).pow(1 / GEM_POWER)], dim=1)


def copy_protocol(
    backbone: nn.Module,
    copies: Copies,
    side: int,
    device: torch.device,
    say: Callable[[str], None] = print,
    keep: Keep = forget,
) -> dict[str, float]:
    """{"copy_map": official, "copy_map_clean": clean}, percent.

    Args:
        side: images are squeezed to squares of so many pixels.
        say: takes a line where whitening is left out.
        keep: takes the average precision of each query, by number.

    Raises:
        UserError: an unreadable image, or whitening from pictures that are all alike.
    """
    backbone.eval()

    def features(images: Iterable[Tensor]) -> Tensor:
        made = [cls_and_gem(backbone, batch.to(device)).cpu() for batch in _batches(images, side)]
        return torch.cat(made) if made else torch.empty(0)

    def upright_too(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        stored_NF = features(images)
        upright_NF, held = stored_NF.clone(), turned(images)
        if held:
            upright_NF[list(held)] = features(upright(images[p], how) for p, how in held.items())
        return stored_NF, upright_NF

    queries, database = upright_too(copies.queries), upright_too(copies.database)
    whitening = upright_too(copies.whitening)
    if not len(copies.whitening):
        say("copy detection: no pictures to learn whitening from, so there is none")
    scores = {}
    for name, clean in (("copy_map", False), ("copy_map_clean", True)):
        pair = queries[clean], database[clean]
        if len(copies.whitening):
            learned = learn_whitening(whitening[clean], centred=clean)
            pair = learned.apply(pair[0]), learned.apply(pair[1])
        similarity_QN = normalize(pair[0], dim=1) @ normalize(pair[1], dim=1).T
        order = similarity_QN.sort(dim=1, descending=True, stable=True).indices.numpy()
        counted = order if clean else order[:, :COUNTED]
        precisions = [
            average_precision(ranking.tolist(), positive, ())
            for ranking, positive in zip(counted, copies.matches, strict=True)
        ]
        keep(name, precisions)
        scores[name] = 100 * float(np.mean(precisions))
    return scores


def _batches(images: Iterable[Tensor], side: int) -> Iterator[Tensor]:
    """Normalised squares, [B, 3, S, S]."""
    left = iter(images)
    while batch := list(islice(left, BATCH)):
        squares = torch.stack([_square(image, side) for image in batch])
        yield normalise(squares.float() / 255)


def _square(image: Tensor, side: int) -> Tensor:
    return levels(picture(image).resize((side, side), Image.Resampling.BICUBIC))
