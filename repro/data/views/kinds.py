"""Which views an image has, two global and several local (Sec. 3.1, App. C); pixels to floats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repro.config.schema import ViewsConfig
from repro.data.views.transfer import constant

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Both for levels of 0 to 255, rounded to single precision one operation at a time.
LEVEL_SCALE = tuple((1 / (255 * torch.tensor(IMAGENET_STD))).tolist())
LEVEL_SHIFT = tuple((-torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)).tolist())


@dataclass(frozen=True)
class View:
    """One kind of crop: global 1, global 2, or local."""

    size: int
    scale: tuple[float, float]
    blur: float
    solarise: float


def view_kinds(config: ViewsConfig) -> list[View]:
    """The two global views, then the local ones."""
    global_scale = (config.global_scale[0], config.global_scale[1])
    local_scale = (config.local_scale[0], config.local_scale[1])
    first = View(config.global_size, global_scale, config.blur[0], 0.0)
    second = View(config.global_size, global_scale, config.blur[1], config.solarise)
    local = View(config.local_size, local_scale, config.blur[2], 0.0)
    return [first, second, *[local] * config.local_number]


def to_pixels(views: Tensor) -> Tensor:
    """Levels (uint8) to normalised floats, in two passes; floats are normalised already."""
    if views.dtype is not torch.uint8:
        return views
    levels = views.float()
    return torch.addcmul(
        _of_channels(LEVEL_SHIFT, levels), levels, _of_channels(LEVEL_SCALE, levels)
    )


def normalise(pixels: Tensor) -> Tensor:
    """ImageNet mean and standard deviation, on pixels in [0, 1]."""
    return (pixels - _of_channels(IMAGENET_MEAN, pixels)) / _of_channels(IMAGENET_STD, pixels)


def normalise_(pixels: Tensor) -> Tensor:
    """`normalise` in place."""
    return pixels.sub_(_of_channels(IMAGENET_MEAN, pixels)).div_(_of_channels(IMAGENET_STD, pixels))


def _of_channels(values: tuple[float, ...], pixels: Tensor) -> Tensor:
    return constant(values, pixels.device, pixels.dtype).view(1, 3, 1, 1)
