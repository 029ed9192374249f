"""One picture from a file: any mode that PIL reads, as red, green and blue levels.

A torn file is an error, never half a picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from repro.data.disk.decoder import (
    ENDINGS,
    UnreadableError,
    decoding,
    is_picture,
    open_image,
    printable,
)
from repro.data.disk.levels import to_rgb
from repro.data.disk.orientation import STORED, orientation_of, upright
from repro.errors import UserError


def open_picture(path: Path) -> Tensor:
    """uint8 [3, H, W], as it is stored, whichever way the camera was held.

    Raises:
        UserError: a file that is missing or cannot be decoded to its end.
    """
    if not path.exists():
        raise UserError(f"{printable(path)}: no such picture")
    try:
        with decoding():
            return levels(open_image(path))
    except UnreadableError as error:
        raise UserError(f"{printable(path)}: unreadable picture ({error})") from None


def open_upright(path: Path) -> Tensor:
    """The same, as it is looked at."""
    return upright(open_picture(path), orientation_of(path))


def turned(images: Sequence[Tensor]) -> dict[int, int]:
    """By place the orientation of those that are stored otherwise than they are looked at."""
    if not isinstance(images, Pictures):
        return {}
    held = {place: orientation_of(file) for place, file in enumerate(images.files)}
    return {place: how for place, how in held.items() if how != STORED}


@dataclass(frozen=True)
class Pictures(Sequence[Tensor]):
    """The pictures of files, read when they are asked for."""

    files: Sequence[Path]
    read: Callable[[Path], Tensor] = open_picture

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: Any) -> Any:
        return self.read(self.files[place])

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.read, self.files)


def levels(image: Image.Image) -> Tensor:
    """The pixels of a picture of any mode, uint8 [3, H, W]."""
    pixels = np.array(to_rgb(image))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def picture(image: Tensor) -> Image.Image:
    """The PIL image of levels, uint8 [3, H, W]."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def resize(images_N: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 images [N, 3, H, W] at another height and width, bicubic with antialiasing."""
    if images_N.shape[-2:] == size:
        return images_N
    resized = interpolate(images_N.float(), size=size, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def compressed(image: Tensor, quality: int) -> Tensor:
    """What is left of an image after JPEG of this quality."""
    file = io.BytesIO()
    picture(image).save(file, "JPEG", quality=quality)
    return levels(Image.open(file))


def pictures_in(folder: Path) -> Sequence[Path]:
    """The picture files of a folder, by name.

    Raises:
        UserError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(path for path in folder.iterdir() if is_picture(path.name))
    if not files:
        raise UserError(f"{folder}: no picture in it ({', '.join(ENDINGS)})")
    return files
