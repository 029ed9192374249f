"""J and F of DAVIS 2017 (Table 5): region similarity and contour accuracy, per object.

J is the Jaccard index of the masks. F is the harmonic mean of precision and recall of the masks'
contours, where a contour pixel counts as found within 0.8 % of the image's diagonal. The first
frame is given and the last is not scored. An object's J and F are means over frames; a benchmark's
are means over all objects of all videos, and J&F is the mean of the two.

Shapes: T frames, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from repro.data.disk.masks import VOID, VOID_ALONE
from repro.errors import UserError

TOLERANCE = 0.008  # of the diagonal
Mask = NDArray[np.bool_]
Marks = NDArray[np.uint8]


@dataclass(frozen=True)
class ObjectScore:
    """In [0, 1]."""

    video: str
    number: int
    j: float
    f: float


def region_similarity(ours: Mask, truth: Mask, void: Mask | None = None) -> float:
    """J of one frame; 1 if both masks are empty. Void pixels count neither way."""
    seen = np.ones_like(truth) if void is None else ~void
    either = ((ours | truth) & seen).sum()
    return float((ours & truth & seen).sum() / either) if either else 1.0


def contour_accuracy(ours: Mask, truth: Mask, void: Mask | None = None) -> float:
    """F of one frame; 1 if neither mask has a contour, 0 if only one has."""
    if void is not None:
        ours, truth = ours & ~void, truth & ~void
    our_contour, true_contour = contour(ours), contour(truth)
    if not our_contour.any() or not true_contour.any():
        return float(our_contour.any() == true_contour.any())
    reach = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    precision = (our_contour & _widened(true_contour, reach)).sum() / our_contour.sum()
    recall = (true_contour & _widened(our_contour, reach)).sum() / true_contour.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def contour(mask: Mask) -> Mask:
    """Pixels that differ from their right, lower or lower right neighbour."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    edges: Mask = (here != right) | (here != below) | (here != diagonal)
    return edges


def score_video(name: str, ours: Sequence[Marks], truth: Sequence[Marks]) -> list[ObjectScore]:
    """J and F of every object that the first frame shows.

    Args:
        ours, truth: the number of the object at every pixel, frame by frame, all frames.

    Raises:
        UserError: fewer than three frames, or a first frame without an object.
    """
    if len(truth) < 3:
        raise UserError(
            f"video {name}: {len(truth)} frame(s); the first is given and the last is not scored, "
            "so that it takes three"
        )
    numbers = [int(n) for n in np.unique(truth[0]) if n not in (0, VOID)]
    if not numbers:
        what = f"holds {VOID_ALONE}" if (truth[0] == VOID).any() else "is empty: nothing to follow"
        raise UserError(f"video {name}: the mask of its first frame {what}")
    scores = []
    for number in numbers:
        j, f = [], []
        for predicted, marks in list(zip(ours, truth, strict=True))[1:-1]:
            masks = predicted == number, marks == number, marks == VOID
            j.append(region_similarity(*masks))
            f.append(contour_accuracy(*masks))
        scores.append(ObjectScore(name, number, float(np.mean(j)), float(np.mean(f))))
    return scores


def benchmark(scores: Sequence[ObjectScore]) -> dict[str, float]:
    """{"jf_mean", "j_mean", "f_mean"} over all objects, percent."""
    j, f = (100 * float(np.mean([getattr(score, key) for score in scores])) for key in "jf")
    return {"jf_mean": (j + f) / 2, "j_mean": j, "f_mean": f}


def _widened(mask: Mask, reach: int) -> Mask:
    """All pixels within `reach` of the mask, a disk."""
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = (rows**2 + columns**2 <= reach**2).astype(np.uint8)
    wide: Mask = cv2.dilate(mask.astype(np.uint8), disk).astype(bool)
    return wide
