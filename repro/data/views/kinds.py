"""Which views an image has, two global and several local (Sec. 3.1, App. C); pixels to floats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repro.config.schema import ViewsConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    scale, shift = (
        t.view(1, 3, 1, 1).to(views.device, non_blocking=True)
        for t in (1 / (255 * std), -mean / std)
    )
    return torch.addcmul(shift, views.float(), scale)


def normalise(pixels: Tensor) -> Tensor:
    """ImageNet mean and standard deviation, on pixels in [0, 1]."""
    mean = pixels.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = pixels.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std
