"""One picture from a file: any mode that PIL reads, as red, green and blue levels.

A torn file is an error, never half a picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from repro.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")


def open_picture(path: Path) -> Tensor:
    """uint8 [3, H, W].

    Raises:
        UserError: a file that is missing or cannot be decoded to its end.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such picture")
    try:
        with decoding(), Image.open(path) as image:
            return levels(ImageOps.exif_transpose(image))
    except UnreadableError as error:
        raise UserError(f"{path}: unreadable picture ({error})") from None


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
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not files:
        raise UserError(f"{folder}: no picture in it ({', '.join(ENDINGS)})")
    return files


DEEP = ("I;16", "I;16L", "I;16B", "I")  # PIL's modes of 16-bit grey images


DECODER_ERRORS = (UnidentifiedImageError, OSError, SyntaxError, ValueError)


class UnreadableError(Exception):
    """An image file cannot be decoded; the text is the decoder's."""


@contextmanager
def decoding() -> Iterator[None]:
    """Around the opening and decoding of an image alone: no other mistake must pass for one."""
    try:
        yield
    except DECODER_ERRORS as error:
        reason = " ".join(str(error).split())[:120]
        raise UnreadableError(f"{type(error).__name__}: {reason}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Red, green and blue, 8 bits each, from any mode that PIL reads.

    16-bit images are scaled to 8 bits, not cut off at 255 as PIL would.
    """
    if image.mode in DEEP:
        deep = np.asarray(image).astype(np.float32)
        image = Image.fromarray((deep / 257).round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray((np.asarray(image) * 255).round().clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
