"""Multi-crop views of one image, several times faster than by PIL (parity class B).

The same parameters as on the reference path, drawn by its own transforms in their own order; the
pixels differ by rounding and by the blur, which is a true Gaussian here and three box filters in
PIL. What PIL does and what takes its place:

| step             | here                                                                         |
| ---------------- | ---------------------------------------------------------------------------- |
| crop, resize     | torch's vectorised uint8 resize, bicubic and antialiased as PIL's            |
| brightness, contrast, solarisation | a table of 256 levels: the same levels as PIL              |
| saturation, grey, hue, blur | OpenCV                                                            |
| to floats        | after the batch is on the device (`kinds.to_pixels`): a quarter of the bytes |

With `data.reduced_decoding` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where every crop still
has twice the pixels of its view in each direction: much faster for large photographs, but a box
filter before the bicubic one, and crops rounded to larger pixels (class C, hence off by default).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import transforms as T

from repro.data.disk.decoder import decoding
from repro.data.disk.levels import to_rgb
from repro.data.views.reference import SOLARISE_FROM

cv2.setNumThreads(0)  # the loader's processes are the parallelism

Pixels = NDArray[np.uint8]  # [H, W, 3]
LEVELS = np.arange(256, dtype=np.float32)
SOLARISED = np.where(LEVELS < SOLARISE_FROM, LEVELS, 255 - LEVELS).astype(np.uint8)
SHRINK_AT_LEAST = 2  # crop to view, in a JPEG that is decoded at reduced size


@dataclass(frozen=True)
class Jitter:
    """torchvision's ColorJitter: factors, and the order of the four operations."""

    order: list[int]
    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True)
class Draw:
    """All random parameters of one view."""

    size: int
    box: tuple[int, int, int, int]  # top, left, height, width
    flip: bool
    jitter: Jitter | None
    grey: bool
    blur: float | None  # sigma
    solarise: bool


def make_views(image: Image.Image, transforms: list[T.Compose], reduced: bool) -> list[Tensor]:
    """The views that `transforms` (see `pil_views`) would make: uint8, each [3, side, side].

    Raises:
        UnreadableError: the image cannot be decoded.
    """
    # Only the header is read so far: PIL images know their size before their pixels.
    width, height = image.size
    draws = [draw(transform, image) for transform in transforms]
    if reduced:
        shrink = min(min(d.box[2:]) // (SHRINK_AT_LEAST * d.size) for d in draws)
        image.draft("RGB", (width // max(1, shrink), height // max(1, shrink)))
    with decoding():
        pixels: Pixels = np.array(to_rgb(image))
    scale = (pixels.shape[0] / height, pixels.shape[1] / width)
    return [torch.from_numpy(render(pixels, d, scale)).permute(2, 0, 1) for d in draws]


def draw(transform: T.Compose, image: Image.Image) -> Draw:
    """One view's parameters from torch's generator, in the order in which `transform` draws."""
    crop, flip, jitter, grey, blur, solarise, _ = transform.transforms
    return Draw(
        size=crop.size[0],
        box=crop.get_params(image, list(crop.scale), list(crop.ratio)),
        flip=_happens(flip.p),
        jitter=None if jitter.p < torch.rand(1) else _draw_jitter(jitter.transforms[0]),
        grey=_happens(grey.p),
        blur=None if blur.p < torch.rand(1) else blur.transforms[0].draw(),
        solarise=_happens(solarise.p),
    )


def _happens(probability: float) -> bool:
    return bool(torch.rand(1) < probability)


def _draw_jitter(jitter: Any) -> Jitter:
    order, *factors = jitter.get_params(
        jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    )
    return Jitter(order.tolist(), *factors)


def render(pixels: Pixels, draw: Draw, scale: tuple[float, float] = (1.0, 1.0)) -> Pixels:
    """The view, [side, side, 3].

    Args:
        scale: size of `pixels` (height, width) as a share of the image in which the box was drawn.
    """
    top, left, height, width = draw.box
    rows = slice(round(top * scale[0]), round((top + height) * scale[0]))
    columns = slice(round(left * scale[1]), round((left + width) * scale[1]))
    crop = torch.from_numpy(pixels[rows, columns]).permute(2, 0, 1)[None]
    view = interpolate(crop, (draw.size, draw.size), mode="bicubic", antialias=True)
    result: Any = view[0].permute(1, 2, 0).numpy()
    if draw.flip:
        result = cv2.flip(result, 1)
    if draw.jitter is not None:
        result = _jittered(np.ascontiguousarray(result), draw.jitter)
    if draw.grey:
        result = cv2.cvtColor(_grey(result), cv2.COLOR_GRAY2RGB)
    if draw.blur is not None:
        result = cv2.GaussianBlur(result, (0, 0), draw.blur, borderType=cv2.BORDER_REPLICATE)
    if draw.solarise:
        result = cv2.LUT(result, SOLARISED)
    return np.ascontiguousarray(result)


def _jittered(pixels: Any, jitter: Jitter) -> Any:
    for operation in jitter.order:
        if operation == 0:
            pixels = cv2.LUT(pixels, _levels(LEVELS * jitter.brightness))
        elif operation == 1:
            mean = int(cv2.mean(_grey(pixels))[0] + 0.5)
            pixels = cv2.LUT(pixels, _levels(mean + jitter.contrast * (LEVELS - mean)))
        elif operation == 2:
            grey = cv2.cvtColor(_grey(pixels), cv2.COLOR_GRAY2RGB)
            s = jitter.saturation
            pixels = cv2.addWeighted(pixels, s, grey, 1 - s, -0.5)  # PIL rounds down
        else:
            hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
            hsv[..., 0] += np.uint8(int(jitter.hue * 255) % 256)  # turns beyond 255 begin again
            pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return pixels


def _grey(pixels: Any) -> Any:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _levels(values: NDArray[np.float32]) -> Pixels:
    return values.clip(0, 255).astype(np.uint8)
