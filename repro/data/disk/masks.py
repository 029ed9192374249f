"""Masks of objects as numbers of pixels: indexed pictures, where 0 is none and 255 is void.

Lossy compression invents numbers along every edge. A mask that has been through it is refused: each
invented number would be followed and scored as an object.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.data.disk.decoder import UnreadableError, decoding, open_image, printable
from repro.errors import UserError

VOID = 255  # the border around objects, which nobody labelled
VOID_ALONE = "255 alone, which is void: number its objects 1, 2, ..."
INDEXED = ("P", "L", "1")  # modes of PIL
LOSSY = ("JPEG", "MPO", "JPEG2000")
INVENTED = 5  # scattered numbers, at least, and most of all numbers
SCATTERED = 0.6  # of a number's pixels, the share with a like neighbour is below


def read_marks(path: Path) -> Tensor:
    """An indexed mask: the number of the object at every pixel, uint8 [H, W].

    Raises:
        UserError: a file that is missing, unreadable, no indexed or grey picture, or lossy.
    """
    try:
        with decoding():
            image = open_image(path)
            mode, kind = image.mode, image.format
            marks = np.array(image, dtype=np.uint8) if mode in INDEXED else None
    except UnreadableError as error:
        raise UserError(f"{printable(path)}: cannot read this mask ({error})") from None
    if marks is None:
        raise UserError(f"{printable(path)}: a mask is an indexed picture, this one is {mode}")
    invented = count_scattered(marks)
    if kind in LOSSY or invented:
        what = f"{invented} of its numbers are scattered pixels" if invented else f"it is a {kind}"
        raise UserError(
            f"{printable(path)}: a mask that lossy compression has changed ({what}); save masks as "
            "PNG only"
        )
    return torch.from_numpy(marks)


def count_scattered(marks: NDArray[np.uint8]) -> int:
    """How many numbers are no areas, if that is what most are; else 0."""
    numbers = np.setdiff1d(np.unique(marks), (0, VOID))
    if len(numbers) < INVENTED:
        return 0
    rows, columns = marks[:-1] == marks[1:], marks[:, :-1] == marks[:, 1:]
    like = np.zeros(marks.shape, bool)
    like[:-1] |= rows
    like[1:] |= rows
    like[:, :-1] |= columns
    like[:, 1:] |= columns
    pixels, in_areas = (np.bincount(m, minlength=256) for m in (marks.ravel(), marks[like]))
    scattered = int((in_areas[numbers] < SCATTERED * pixels[numbers]).sum())
    return scattered if scattered >= INVENTED and 2 * scattered > len(numbers) else 0
