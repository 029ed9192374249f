"""Multi-crop views of one decoded image by torchvision on PIL images (Sec. 3.1, App. C).

As the authors' `DataAugmentationDINO` does it (parity class A): the reference path, and the oracle
and source of all parameters of the fast one (`fast.py`).
"""

from __future__ import annotations

import torch
from PIL import Image, ImageFilter
from torchvision import transforms as T

from repro.config.schema import ViewsConfig
from repro.data.views.kinds import IMAGENET_MEAN, IMAGENET_STD, View

BICUBIC = T.InterpolationMode.BICUBIC
SOLARISE_FROM = 128


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
