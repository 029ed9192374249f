"""How a camera was held (EXIF orientation): pictures as they are stored, and upright.

The authors' loaders show networks what is stored, but for video frames, which OpenCV turns. Masks
and boxes belong to the stored pixels and carry no such tag: what turns a picture turns them along.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from repro.data.disk.decoder import UnreadableError, decoding

TAG = 0x0112
STORED = 1
TURNED_ON_READING = ("TIFF",)  # by PIL itself
BACK = {6: 8, 8: 6}  # the others are their own inverses


def orientation_of(path: Path) -> int:
    """1 to 8, as EXIF counts; of a file that says nothing, or that is unreadable, 1."""
    if not path.is_file():
        return STORED
    try:
        with decoding(), Image.open(path) as image:  # its header alone
            held = 1 if image.format in TURNED_ON_READING else image.getexif().get(TAG, STORED)
    except UnreadableError:
        return STORED  # whoever reads its pixels names it
    return held if held in range(1, 9) else STORED


def upright(image: Tensor, held: int) -> Tensor:
    """[..., H, W] as stored, turned and mirrored to be looked at."""
    rows, columns = -2, -1
    if held in (5, 7):
        image = image.transpose(rows, columns)
    if held in (2, 7, 3):
        image = image.flip(columns)
    if held in (4, 7, 3):
        image = image.flip(rows)
    if held in (6, 8):
        image = torch.rot90(image, -1 if held == 6 else 1, (rows, columns))
    return image.contiguous()


def as_stored(image: Tensor, held: int) -> Tensor:
    """What `upright` makes the image of."""
    return upright(image, BACK.get(held, held))
