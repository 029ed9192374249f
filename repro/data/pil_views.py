"""Multi-crop views of one decoded image by torchvision on PIL images (Sec. 3.1, App. C).

As the authors' `DataAugmentationDINO` does it: the reference path, and the oracle and source of all
parameters of the fast one (`fast_views.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageFilter, UnidentifiedImageError
from torchvision import transforms as T

from repro.config import ViewsConfig
from repro.dino.views import IMAGENET_MEAN, IMAGENET_STD, View

BICUBIC = T.InterpolationMode.BICUBIC
SOLARISE_FROM = 128
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


def view_transform(kind: View, config: ViewsConfig) -> T.Compose:
    """The transforms of one view, in the authors' order."""
    jitter = T.ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    return T.Compose(
        [
            T.RandomResizedCrop(kind.size, scale=kind.scale, interpolation=BICUBIC),
            T.RandomHorizontalFlip(config.flip),
            T.RandomApply([jitter], config.jitter),
            T.RandomGrayscale(config.grey),
            T.RandomApply([PilBlur(config.blur_sigma)], kind.blur),
            T.RandomSolarize(SOLARISE_FROM, kind.solarise),
            to_tensor(),
        ]
    )


class PilBlur(torch.nn.Module):
    """PIL's Gaussian blur with a radius drawn uniformly."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = sigma

    def draw(self) -> float:
        return float(torch.empty(1).uniform_(self.low, self.high))

    def forward(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(self.draw()))


def to_tensor() -> T.Compose:
    return T.Compose([T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
