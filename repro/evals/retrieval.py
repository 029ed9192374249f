"""Image retrieval on revisited Oxford and Paris (Sec. 4.2.1, Table 3; the authors' script).

Every query ranks the database by the cosine of final-norm [CLS] features. Average precision is the
area under the precision-recall line (trapezoids); images that are junk for a query are taken out of
its ranking first. Medium: easy and hard images are positive, junk is junk; Hard: hard ones are
positive, easy ones count as junk. A query without positives has no part in the mean.

Images are shrunk so that their longer side fits, never enlarged. Oxford: one scale at 224 pixels;
Paris: 512 pixels at scales 1, 1/sqrt(2) and 1/2, the sum of features normalised.

Two tiers. `official`: whole query images and pixels as stored, as the authors' script has them.
`clean`: pictures upright, queries cut to the box of the object that is looked for, as the benchmark
defines them.

Shapes: Q queries, N database images, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from repro.data.disk.orientation import upright
from repro.data.landmarks import Landmarks, Truth
from repro.data.pictures import levels, picture, turned
from repro.data.views.kinds import normalise
from repro.errors import UserError
from repro.evals.judged import Keep, forget

ONE_SCALE = (1.0,)
THREE_SCALES = (1.0, 1 / sqrt(2), 1 / 2)
Places = Sequence[int]


@dataclass(frozen=True)
class Setting:
    """`side`: of the longer side of an image, at most; 0: as it is."""

    side: int
    scales: tuple[float, ...]


SETTINGS = {"roxford5k": Setting(224, ONE_SCALE), "rparis6k": Setting(512, THREE_SCALES)}
MADE = Setting(64, ONE_SCALE)  # two tiles wide, as 480 pixels to 224


def average_precision(ranking: Places, positive: Iterable[int], junk: Iterable[int]) -> float:
    """In [0, 1]: the area under the precision-recall line of one query.

    Args:
        ranking: places of all database images, the most similar first.
        positive: places of the images that should come first; at least one.
        junk: places that are left out of the ranking.
    """
    relevant, ignored = set(positive), set(junk)
    assert relevant, "a query without positives has no average precision"
    kept = np.array([place in relevant for place in ranking if place not in ignored])
    ranks = kept.nonzero()[0]
    found_before = np.arange(len(ranks))
    # Precision just before a positive and with it; before the very first image it counts as 1.
    before = np.where(ranks == 0, 1.0, found_before / np.maximum(ranks, 1))
    return float((before + (found_before + 1) / (ranks + 1)).sum() / (2 * len(relevant)))


def mean_average_precision(
    rankings: NDArray[np.int64], truths: Sequence[Truth], hard: bool
) -> float:
    """Percent, over the queries that have positives; as `precisions_of`."""
    return 100 * float(np.mean(precisions_of(rankings, truths, hard)))


def precisions_of(rankings: NDArray[np.int64], truths: Sequence[Truth], hard: bool) -> list[float]:
    """The average precision of each query that has positives, in [0, 1].

    Args:
        rankings: [Q, N], places of database images, the most similar first.
        hard: Hard instead of Medium.

    Raises:
        UserError: no query has a positive.
    """
    precisions = []
    for ranking, truth in zip(rankings, truths, strict=True):
        positive = truth.hard if hard else truth.easy + truth.hard
        junk = truth.junk + truth.easy if hard else truth.junk
        if positive:
            precisions.append(average_precision(ranking.tolist(), positive, junk))
    if not precisions:
        level = "hard" if hard else "easy or hard"
        raise UserError(f"retrieval: no query has an image that is {level} to find")
    return precisions


@torch.no_grad()
def describe(backbone: nn.Module, image: Tensor, setting: Setting, device: torch.device) -> Tensor:
    """The unit feature of an image, uint8 [3, H, W]: [D] on the device; the normalised sum over
    scales.
    """
    pixels = normalise(fitted(image, setting.side)[None].to(device).float() / 255)
    total: Tensor = sum(
        (backbone(_scaled(pixels, scale, backbone)).float() for scale in setting.scales),
        start=torch.zeros((), device=device),
    )
    return normalize(total, dim=1)[0]


def fitted(image: Tensor, side: int) -> Tensor:
    """An image no longer than `side`, as PIL's thumbnail makes it: shrunk, never enlarged."""
    if not side or max(image.shape[-2:]) <= side:
        return image
    small = picture(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return levels(small)


def retrieval_protocol(
    backbone: nn.Module,
    landmarks: Landmarks,
    setting: Setting,
    device: torch.device,
    say: Callable[[str], None] = print,
    keep: Keep = forget,
) -> dict[str, float]:
    """{"map_medium", "map_hard"} of the official tier, the same with "_clean" of the clean one.

    Args:
        say: takes a line of progress now and then.
        keep: takes the average precision of each query that has positives, by number.

    Raises:
        UserError: an unreadable image, or no positive image for any query.
    """
    backbone.eval()

    def features(images: Iterable[Tensor], what: str) -> Tensor:
        made = []
        for image in images:
            made.append(describe(backbone, image, setting, device))
            if len(made) % 1000 == 0:
                say(f"retrieval: {len(made):,} {what}")
        return torch.stack(made).cpu()  # only now: a GPU works while further images are read

    stored_ND = features(landmarks.database, "database images")
    upright_ND = stored_ND.clone()
    for place, held in turned(landmarks.database).items():
        image = upright(landmarks.database[place], held)
        upright_ND[place] = describe(backbone, image, setting, device).cpu()
    scores = {}
    for tier, cropped, database_ND in (("", False, stored_ND), ("_clean", True, upright_ND)):
        queries_QD = features(landmarks.queries(cropped), "queries")
        order = (queries_QD @ database_ND.T).sort(dim=1, descending=True, stable=True).indices
        for name, hard in (("map_medium", False), ("map_hard", True)):
            precisions = precisions_of(order.numpy(), landmarks.truths, hard)
            keep(f"{name}{tier}", precisions)
            scores[f"{name}{tier}"] = 100 * float(np.mean(precisions))
    return scores


def _scaled(pixels: Tensor, scale: float, backbone: nn.Module) -> Tensor:
    """The image at a scale, cut to whole patches; a smaller one is enlarged to a single patch."""
    if scale != 1 and scale * min(pixels.shape[-2:]) >= 1:
        pixels = interpolate(pixels, scale_factor=scale, mode="bilinear", align_corners=False)
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", (1, 1))[0]
    height, width = (max(patch, side) for side in pixels.shape[-2:])
    if (height, width) != tuple(pixels.shape[-2:]):
        pixels = interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False)
    return pixels[..., : height // patch * patch, : width // patch * patch]
