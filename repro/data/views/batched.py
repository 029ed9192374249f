"""Multi-crop views with BYOL's augmentations (Sec. 3.1, App. C), for images held in memory.

Two global and several local crops; each crop is flipped, colour-jittered, turned grey, blurred and
solarised with parameters of its own (`draws.py`), a whole batch at a time. On CUDA GPUs views of up
to 64 pixels are made by `triton_views.py`. Images that are decoded one by one have theirs from
`reference.py` or `fast.py`.

Shapes: B images of H x W pixels, V views of one size S, M = V x B crops, J of them jittered.

Departures from the authors' pipeline (parity class C, in rounding only): colours stay in floating
point between operations, the bicubic kernel has a = -0.75 without antialiasing (crops here are
enlarged, or shrunk by less than 1.3), the blur is a true Gaussian.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import islice

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from repro.config.schema import GLOBAL_VIEWS, ViewsConfig
from repro.data.views.draws import ROUNDS, Draws, Parameters, Plan, draw, plan
from repro.data.views.kinds import View, normalise_, view_kinds
from repro.data.views.transfer import constant, moved, moved_together

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's and torchvision's
SOLARISE_FROM = 128 / 255
LARGEST_FUSED = 64  # pixels across, whose crops fit into the registers of a GPU's program
SAMPLES = 16  # images on which Triton's kernels must agree with torch
FAR = 1e-3  # of pixels that ought to be the same


def make_views(images: Tensor, config: ViewsConfig, random: Generator) -> list[Tensor]:
    """All views of a batch: [globals x B, 3, g, g] and, with local crops, [locals x B, 3, l, l].

    Args:
        images: uint8 [B, 3, H, W].
        random: a CPU generator; every parameter is drawn from it, whatever the device.
    """
    batch, _, height, width = images.shape
    kinds = view_kinds(config)
    sizes, drawn = [], []
    for same in filter(None, (kinds[:GLOBAL_VIEWS], kinds[GLOBAL_VIEWS:])):
        sizes.append(same[0].size)
        drawn.append(draw(same, batch, height, width, config, random))
    widest_sigma = config.blur_sigma[1]
    make = _by_triton if _fuses(images.device, tuple(sizes), widest_sigma) else _by_torch
    return make(images, drawn, sizes, widest_sigma)


def _by_torch(
    images: Tensor, drawn: list[Draws], sizes: list[int], widest_sigma: float
) -> list[Tensor]:
    plans = [plan(of, size, widest_sigma) for of, size in zip(drawn, sizes, strict=True)]
    pixels = images.float() / 255
    return [render(pixels, ready) for ready in _on_device(plans, images.device)]


def _by_triton(
    images: Tensor, drawn: list[Draws], sizes: list[int], widest_sigma: float
) -> list[Tensor]:
    from repro.data.views import triton_views  # Triton, which only CUDA machines have

    of_M = [triton_views.parameters(draws) for draws in drawn]
    there = torch.split(moved(torch.cat(of_M), images.device), [len(of) for of in of_M])
    return [
        triton_views.render(images, of, size, widest_sigma)
        for of, size in zip(there, sizes, strict=True)
    ]


@cache
def _fuses(device: torch.device, sizes: tuple[int, ...], widest_sigma: float) -> bool:
    if device.type != "cuda" or max(sizes) > LARGEST_FUSED or find_spec("triton") is None:
        return False
    for size in sizes:
        if reason := why_not_fused(device, size, widest_sigma):
            warnings.warn(f"views of {size} pixels are made by torch: {reason}", stacklevel=2)
            return False
    return True


def why_not_fused(device: torch.device, size: int, widest_sigma: float) -> str:
    """Why `triton_views` cannot be used here; empty where it makes the views that torch makes."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SAMPLES, 3, size, size), generator=random)
    every = View(size, scale=(0.4, 1.0), blur=0.5, solarise=0.5)
    config = ViewsConfig(blur_sigma=(widest_sigma / 10, widest_sigma))
    drawn = draw([every], SAMPLES, size, size, config, random)
    given = images.to(device, torch.uint8), [drawn], [size], widest_sigma
    try:
        (ours,) = _by_triton(*given)
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver raises
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    (theirs,) = _by_torch(*given)
    # A level within rounding of the threshold of solarisation may be on either side of it.
    same = ((ours - theirs).abs() < FAR).float().mean()
    return "" if float(same) > 0.99 else f"{1 - float(same):.1%} of its pixels are others"


def _on_device(plans: list[Plan], device: torch.device) -> list[Plan]:
    """The plans with their parameters there, all in one copy."""
    there = iter(moved_together([value for plan in plans for value in plan.parameters], device))
    return [replace(p, parameters=Parameters(*islice(there, len(p.parameters)))) for p in plans]


def render(pixels: Tensor, plan: Plan) -> Tensor:
    """Views of one size: pixels in [0, 1], [B, 3, H, W] -> normalised [M, 3, S, S]."""
    parameters = plan.parameters
    views = crop_and_resize(pixels, parameters.box_VB4, parameters.flip_VB, plan.size)
    origins = iter(parameters.origin_RM)
    for number, (ends, factor_M) in enumerate(zip(plan.ends, parameters.factor_RM, strict=True)):
        if number == ROUNDS:
            turn_hue_(views[: plan.jittered], parameters.turn_J)
        views = views.index_select(0, next(origins))
        colour_round_(views, ends, factor_M)
    if plan.grey.stop or len(parameters.kernel_SW):
        views = views.index_select(0, next(origins))
        if plan.grey.stop:
            views[plan.grey] = grey(views[plan.grey])
        if len(parameters.kernel_SW):
            views[plan.blurred] = blur(views[plan.blurred], parameters.kernel_SW)
    if plan.solarised:
        views = views.index_select(0, next(origins))
        solarise_(views[: plan.solarised])
    return normalise_(views.index_select(0, next(origins)))


def crop_and_resize(pixels: Tensor, box_VB4: Tensor, flip_VB: Tensor, size: int) -> Tensor:
    """Bicubic resize of each box to size x size, mirrored where `flip_VB`; [V x B, 3, S, S]."""
    batch, channels, height, width = pixels.shape
    views = len(box_VB4)
    top, left, box_height, box_width = box_VB4.transpose(0, 1)[..., None].unbind(2)  # [B, V, 1]
    centres = (torch.arange(size, device=pixels.device) + 0.5) / size
    across = torch.where(flip_VB.T[..., None], 1 - centres, centres)
    rows = (top + centres * box_height) / height * 2 - 1
    columns = (left + across * box_width) / width * 2 - 1
    # The views of an image are one tall picture, so that the image is not copied for each.
    shape = (batch, views, size, size)
    grid = torch.stack([columns[:, :, None].expand(shape), rows[..., None].expand(shape)], dim=-1)
    tall = F.grid_sample(
        pixels,
        grid.view(batch, views * size, size, 2),
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    by_view = tall.clamp_(0, 1).view(batch, channels, views, size, size).permute(2, 0, 1, 3, 4)
    return by_view.reshape(views * batch, channels, size, size)


def colour_round_(views: Tensor, ends: Sequence[int], factor_M: Tensor) -> None:
    """Brightness for the first crops, then contrast, then saturation, each up to its end."""
    bright, contrast, end = ends
    factor = factor_M[:, None, None, None]
    views[:bright].mul_(factor[:bright])
    if end > bright:
        rest = views[bright:end]
        towards = grey(rest)
        even = towards[: contrast - bright]
        even.copy_(even.mean(dim=(1, 2, 3), keepdim=True))
        torch.lerp(towards.expand_as(rest), rest, factor[bright:end].expand_as(rest), out=rest)
    views[:end].clamp_(0, 1)


def turn_hue_(pixels_J3SS: Tensor, turn_J: Tensor) -> None:
    """Turn every hue, in radians, at the same saturation and value (HSV)."""
    red, green, blue = pixels_J3SS.unbind(1)
    value = pixels_J3SS.amax(1)
    spread = value - pixels_J3SS.amin(1)
    saturation = spread / (value + 1e-8)
    spread.masked_fill_(spread == 0, 1)
    less_red, less_green, less_blue = (value[:, None] - pixels_J3SS).unbind(1)
    from_green = (less_red - less_blue).add_(spread, alpha=2)
    from_blue = (less_green - less_red).add_(spread, alpha=4)
    hue = torch.where(green >= blue, from_green, from_blue)
    hue = torch.where(red == value, less_blue - less_green, hue).div_(spread)
    # In turns, then in radians, then in sixths of a turn: each rounds as in common code.
    hue.div_(6).remainder_(1).frac_().mul_(2 * math.pi)
    hue.add_(turn_J[:, None, None]).remainder_(2 * math.pi).div_(2 * math.pi).mul_(6)

    # In each sixth one channel has the value, one the least, and one lies between.
    least = value * (1 - saturation)
    between = value * (1 - (hue.remainder(2).sub_(1)).abs_() * saturation)
    middles = constant((2.5, 1.5, 3.5), hue.device, hue.dtype).view(3, 1, 1)
    away = (hue.floor_()[:, None] - middles).abs_()
    near, far = (away < 1).unbind(1), (away > 2).unbind(1)
    torch.where(far[0], value, torch.where(near[0], least, between), out=red)
    torch.where(near[1], value, torch.where(far[1], least, between), out=green)
    torch.where(near[2], value, torch.where(far[2], least, between), out=blue)


def grey(pixels: Tensor) -> Tensor:
    """Luma, [M, 1, S, S]."""
    red, green, blue = pixels.unbind(1)
    weights = constant(LUMA, pixels.device, pixels.dtype).unbind()
    return (red * weights[0]).addcmul_(green, weights[1]).addcmul_(blue, weights[2])[:, None]


def blur(pixels: Tensor, kernel_MW: Tensor) -> Tensor:
    """Across, then down, each picture with a kernel of its own; borders are mirrored."""
    count, channels = pixels.shape[:2]
    reach = kernel_MW.shape[1] // 2
    kernel = kernel_MW[:, None].expand(-1, channels, -1).reshape(count * channels, 1, 1, -1)
    across = F.pad(pixels, (reach, reach, 0, 0), mode="reflect").flatten(0, 1)[None]
    across = F.conv2d(across, kernel, groups=count * channels).view_as(pixels)
    down = F.pad(across, (0, 0, reach, reach), mode="reflect").flatten(0, 1)[None]
    return F.conv2d(down, kernel.transpose(2, 3), groups=count * channels).view_as(pixels)


def solarise_(pixels: Tensor) -> None:
    torch.where(pixels >= SOLARISE_FROM, 1 - pixels, pixels, out=pixels)
