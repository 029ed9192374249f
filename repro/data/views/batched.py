"""Multi-crop views with BYOL's augmentations (Sec. 3.1, App. C), for images held in memory.

Two global and several local crops; each crop is flipped, colour-jittered, turned grey, blurred and
solarised with parameters of its own, a whole batch at a time. Images that are decoded one by one
have theirs from `reference.py` or `fast.py`.

Shapes: B images, H x W pixels; views are [B, 3, side, side], normalised.

Parameters follow torchvision's RandomResizedCrop and ColorJitter (each image has its own order of
the four colour operations). Departures from the authors' pipeline (parity class C, in rounding
only): colours stay in floating point between operations, the bicubic kernel has a = -0.75 without
antialiasing (crops here are enlarged, or shrunk by less than 1.3), the blur is a true Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from kornia.color import hsv_to_rgb, rgb_to_grayscale, rgb_to_hsv
from kornia.filters import gaussian_blur2d
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from repro.config.schema import GLOBAL_VIEWS, ViewsConfig
from repro.data.views.kinds import View, normalise, view_kinds

CROP_ATTEMPTS = 10  # torchvision's RandomResizedCrop


def make_views(images: Tensor, config: ViewsConfig, random: Generator) -> list[Tensor]:
    """All views of a batch: [globals x B, 3, g, g] and, with local crops, [locals x B, 3, l, l].

    Args:
        images: uint8 [B, 3, H, W].
        random: a CPU generator; every parameter is drawn from it, whatever the device.
    """
    pixels = images.float() / 255
    views = [make_view(pixels, kind, config, random) for kind in view_kinds(config)]
    batches = [torch.cat(views[:GLOBAL_VIEWS])]
    if config.local_number:
        batches.append(torch.cat(views[GLOBAL_VIEWS:]))
    return batches


def make_view(pixels: Tensor, kind: View, config: ViewsConfig, random: Generator) -> Tensor:
    """One view of every image: pixels in [0, 1], [B, 3, H, W] -> normalised [B, 3, side, side]."""
    batch, _, height, width = pixels.shape
    flip = _happens(batch, config.flip, random)
    box = draw_crops(batch, height, width, kind.scale, random)
    view = crop_and_resize(pixels, box, flip, kind.size)
    view = _apply(view, _happens(batch, config.jitter, random), _jitter(config, random))
    view = _apply(view, _happens(batch, config.grey, random), _grey)
    view = _apply(view, _happens(batch, kind.blur, random), _blur(config, random))
    view = _apply(view, _happens(batch, kind.solarise, random), _solarise)
    return normalise(view)


def draw_crops(
    batch: int, height: int, width: int, scale: tuple[float, float], random: Generator
) -> Tensor:
    """Boxes (top, left, height, width) in whole pixels, [B, 4], as RandomResizedCrop draws them.

    Area uniform in `scale`, log-uniform aspect ratio in [3/4, 4/3], the first of ten attempts that
    fits; else the whole image, cut to the nearest allowed ratio.
    """
    area = height * width * _uniform((batch, CROP_ATTEMPTS), scale, random)
    log_ratio = _uniform((batch, CROP_ATTEMPTS), (math.log(3 / 4), math.log(4 / 3)), random)
    wide = (area * log_ratio.exp()).sqrt().round()
    high = (area / log_ratio.exp()).sqrt().round()
    fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    box_height = high.gather(1, first).squeeze(1)
    box_width = wide.gather(1, first).squeeze(1)
    fallback = ~fits.any(dim=1)
    box_height = torch.where(fallback, float(min(height, round(width / (3 / 4)))), box_height)
    box_width = torch.where(fallback, float(min(width, round(height * (4 / 3)))), box_width)
    top = (_uniform((batch,), (0, 1), random) * (height - box_height + 1)).floor()
    left = (_uniform((batch,), (0, 1), random) * (width - box_width + 1)).floor()
    top = torch.where(fallback, ((height - box_height) / 2).floor(), top)
    left = torch.where(fallback, ((width - box_width) / 2).floor(), left)
    return torch.stack([top, left, box_height, box_width], dim=1)


def crop_and_resize(pixels: Tensor, box_B4: Tensor, flip_B: Tensor, size: int) -> Tensor:
    """Bicubic resize of each box to size x size, mirrored where `flip_B`; [B, 3, size, size]."""
    height, width = pixels.shape[-2:]
    box_B4, flip_B = box_B4.to(pixels.device), flip_B.to(pixels.device)
    top, left, box_height, box_width = box_B4.unbind(1)
    centres = (torch.arange(size, device=pixels.device) + 0.5) / size
    across = torch.where(flip_B[:, None], 1 - centres, centres)
    rows = (top[:, None] + centres * box_height[:, None]) / height * 2 - 1
    columns = (left[:, None] + across * box_width[:, None]) / width * 2 - 1
    shape = (len(pixels), size, size)
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    resized = grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return resized.clamp(0, 1)


def _jitter(config: ViewsConfig, random: Generator) -> Callable[[Tensor], Tensor]:
    """torchvision's ColorJitter with an order and factors for each image."""

    def jitter(pixels: Tensor) -> Tensor:
        batch = len(pixels)
        factors = [
            _uniform((batch,), (1 - strength, 1 + strength), random).to(pixels.device)
            for strength in (config.brightness, config.contrast, config.saturation)
        ]
        shift = _uniform((batch,), (-config.hue, config.hue), random).to(pixels.device)
        operations = [_brightness, _contrast, _saturation, _hue]
        order = torch.rand(batch, 4, generator=random).argsort(dim=1)
        pixels = pixels.clone()
        for place in range(4):
            for index, operation in enumerate(operations):
                # On the CPU: counting on a GPU would make it wait.
                chosen = (order[:, place] == index).nonzero().squeeze(1).to(pixels.device)
                factor = shift if index == 3 else factors[index]
                pixels[chosen] = operation(pixels[chosen], factor[chosen].view(-1, 1, 1, 1))
        return pixels

    return jitter


def _brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    return (pixels * factor).clamp(0, 1)


def _contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    mean = rgb_to_grayscale(pixels).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(pixels), pixels, factor.expand_as(pixels)).clamp(0, 1)


def _saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    grey = rgb_to_grayscale(pixels).expand_as(pixels)
    return torch.lerp(grey, pixels, factor.expand_as(pixels)).clamp(0, 1)


def _hue(pixels: Tensor, shift: Tensor) -> Tensor:
    hue, saturation, value = rgb_to_hsv(pixels).chunk(3, dim=1)
    turned = torch.remainder(hue + shift * 2 * math.pi, 2 * math.pi)
    return hsv_to_rgb(torch.cat([turned, saturation, value], dim=1))


def _grey(pixels: Tensor) -> Tensor:
    return rgb_to_grayscale(pixels).expand_as(pixels)


def _blur(config: ViewsConfig, random: Generator) -> Callable[[Tensor], Tensor]:
    low, high = config.blur_sigma
    reach = math.ceil(3 * high)

    def blur(pixels: Tensor) -> Tensor:
        sigma = _uniform((len(pixels), 1), (low, high), random).expand(-1, 2).to(pixels.device)
        side = 2 * min(reach, pixels.shape[-1] - 1) + 1
        return gaussian_blur2d(pixels, (side, side), sigma)

    return blur


def _solarise(pixels: Tensor) -> Tensor:
    return torch.where(pixels >= 128 / 255, 1 - pixels, pixels)


def _apply(pixels: Tensor, chosen_B: Tensor, operation: Callable[[Tensor], Tensor]) -> Tensor:
    """`operation` on the chosen images only."""
    if chosen_B.all():
        return operation(pixels)
    index = chosen_B.nonzero().squeeze(1).to(pixels.device)
    if len(index):
        pixels = pixels.clone()
        pixels[index] = operation(pixels[index])
    return pixels


def _happens(batch: int, probability: float, random: Generator) -> Tensor:
    return torch.rand(batch, generator=random) < probability


def _uniform(shape: tuple[int, ...], bounds: tuple[float, float], random: Generator) -> Tensor:
    return torch.rand(shape, generator=random) * (bounds[1] - bounds[0]) + bounds[0]
