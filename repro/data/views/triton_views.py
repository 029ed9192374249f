"""Views of small images on CUDA GPUs in two passes over memory, where `batched.py` takes dozens.

A step of small images waits for launches: here one kernel cuts, resizes and colours a crop, all of
it in registers, and a second one blurs, solarises and normalises. The draws and the mathematics are
`batched.py`'s, the rounding is not (parity class C either way).

Shapes: B images of H x W pixels, views of side S, M crops of B images, view-major; a program of the
first kernel makes a crop, one of the second a channel of it.
"""

# Annotations stay objects: Triton reads them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, no-any-return, untyped-decorator"
# ruff: noqa: ANN001, ANN202

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from repro.data.views.draws import Draws
from repro.data.views.kinds import IMAGENET_MEAN, IMAGENET_STD

PIXELS_A_WARP = 256
COLUMNS = 16  # of the parameters of a crop
FLIP, FACTORS, TURN, GREY, SIGMA, SOLARISE, ORDER = (
    tl.constexpr(c) for c in (4, 5, 8, 9, 10, 11, 12)
)
NO_OPERATION = 4.0
A = tl.constexpr(-0.75)  # of the bicubic kernel
SOLARISE_FROM = tl.constexpr(128 / 255)
MEANS, STDS = tl.constexpr(IMAGENET_MEAN), tl.constexpr(IMAGENET_STD)


def parameters(drawn: Draws) -> Tensor:
    """What the kernels must know of each crop, [M, COLUMNS], on the host."""
    of_M = torch.zeros(len(drawn.grey_M), COLUMNS)
    of_M[:, :4] = drawn.box_VB4.flatten(0, 1)
    of_M[:, 4] = drawn.flip_VB.flatten()
    of_M[:, 12:] = NO_OPERATION
    of_M[drawn.jittered_M, 5:9] = drawn.factor_4J.T
    of_M[drawn.jittered_M, 12:] = drawn.order_J4.float()
    of_M[:, 9] = drawn.grey_M
    of_M[drawn.blurred_M, 10] = drawn.sigma_S
    of_M[:, 11] = drawn.solarised_M
    return of_M


def render(images: Tensor, of_M: Tensor, size: int, widest_sigma: float) -> Tensor:
    """Views of one size of images [B, 3, H, W], uint8: [M, 3, S, S], normalised."""
    batch, channels, height, width = images.shape
    crops, block = len(of_M), triton.next_power_of_2(size * size)
    coloured = torch.empty(crops, channels, size, size, device=images.device)
    views = torch.empty_like(coloured)
    warps = {"num_warps": max(1, block // PIXELS_A_WARP)}
    with torch.cuda.device_of(images):
        _crop_and_colour[(crops,)](
            images.contiguous(), of_M, coloured, batch, height, width, size, block, COLUMNS, **warps
        )
        reach = min(math.ceil(3 * widest_sigma), size - 1)
        _blur_and_normalise[(crops, channels)](
            coloured, of_M, views, reach, size, block, COLUMNS, **warps
        )
    return views


@triton.jit
def _crop_and_colour(
    images_ptr, of_ptr, out_ptr, batch, height, width,
    S: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    crop = tl.program_id(0).to(tl.int64)
    of_ptr += crop * COLUMNS
    pixel = tl.arange(0, BLOCK)
    centre_y, centre_x = (pixel // S + 0.5) / S, (pixel % S + 0.5) / S
    centre_x = tl.where(tl.load(of_ptr + FLIP) > 0, 1 - centre_x, centre_x)
    y = tl.load(of_ptr) + centre_y * tl.load(of_ptr + 2) - 0.5
    x = tl.load(of_ptr + 1) + centre_x * tl.load(of_ptr + 3) - 0.5
    top, left = tl.floor(y), tl.floor(x)
    y -= top
    x -= left

    plane = height * width
    image_ptr = images_ptr + (crop % batch) * 3 * plane
    red = tl.zeros([BLOCK], tl.float32)
    green = tl.zeros([BLOCK], tl.float32)
    blue = tl.zeros([BLOCK], tl.float32)
    for i in tl.static_range(4):
        row = tl.minimum(tl.maximum(top.to(tl.int32) + (i - 1), 0), height - 1)
        for j in tl.static_range(4):
            column = tl.minimum(tl.maximum(left.to(tl.int32) + (j - 1), 0), width - 1)
            weight = _tap(y, i) * _tap(x, j)
            place_ptr = image_ptr + row * width + column
            red += weight * tl.load(place_ptr).to(tl.float32)
            green += weight * tl.load(place_ptr + plane).to(tl.float32)
            blue += weight * tl.load(place_ptr + 2 * plane).to(tl.float32)
    red, green, blue = _unit(red / 255), _unit(green / 255), _unit(blue / 255)

    here = pixel < S * S
    for place in tl.static_range(4):
        operation = tl.load(of_ptr + ORDER + place)
        if operation == 0:
            factor = tl.load(of_ptr + FACTORS)
            red, green, blue = _unit(red * factor), _unit(green * factor), _unit(blue * factor)
        if operation == 1:
            factor = tl.load(of_ptr + FACTORS + 1)
            luma = _luma(red, green, blue)
            mean = tl.sum(tl.where(here, luma, 0.0), axis=0) / (S * S)
            red, green, blue = _mix(mean, red, green, blue, factor)
        if operation == 2:
            factor = tl.load(of_ptr + FACTORS + 2)
            luma = _luma(red, green, blue)
            red, green, blue = _mix(luma, red, green, blue, factor)
        if operation == 3:
            red, green, blue = _turned(red, green, blue, tl.load(of_ptr + TURN))
    if tl.load(of_ptr + GREY) > 0:
        luma = _luma(red, green, blue)
        red, green, blue = luma, luma, luma

    out_ptr += crop * 3 * S * S + pixel
    tl.store(out_ptr, red, mask=here)
    tl.store(out_ptr + S * S, green, mask=here)
    tl.store(out_ptr + 2 * S * S, blue, mask=here)


@triton.jit
def _tap(t, number: tl.constexpr):
    """Weight of the four pixels around a point that lies t beyond the second."""
    if number == 0:
        d = t + 1
    elif number == 1:
        d = t
    elif number == 2:
        d = 1 - t
    else:
        d = 2 - t
    if number == 1 or number == 2:
        weight = ((A + 2) * d - (A + 3)) * d * d + 1
    else:
        weight = ((A * d - 5 * A) * d + 8 * A) * d - 4 * A
    return weight


@triton.jit
def _unit(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _luma(red, green, blue):
    return red * 0.299 + green * 0.587 + blue * 0.114


@triton.jit
def _mix(grey, red, green, blue, factor):
    red = _unit(grey + factor * (red - grey))
    green = _unit(grey + factor * (green - grey))
    blue = _unit(grey + factor * (blue - grey))
    return red, green, blue


@triton.jit
def _turned(red, green, blue, turn):
    """The colour with its hue turned by a share of the circle; as `batched.turn_hue_`."""
    value = tl.maximum(tl.maximum(red, green), blue)
    spread = value - tl.minimum(tl.minimum(red, green), blue)
    saturation = spread / (value + 1e-8)
    divisor = tl.where(spread == 0, 1.0, spread)
    hue = tl.where(green >= blue, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    hue = tl.where(red == value, (green - blue) / divisor, hue) + 6 * turn
    hue -= 6 * tl.floor(hue / 6)
    least = value * (1 - saturation)
    between = value * (1 - tl.abs(hue - 2 * tl.floor(hue / 2) - 1) * saturation)
    sixth = tl.floor(hue)
    away = tl.abs(sixth - 2.5)
    red = tl.where(away > 2, value, tl.where(away < 1, least, between))
    away = tl.abs(sixth - 1.5)
    green = tl.where(away < 1, value, tl.where(away > 2, least, between))
    away = tl.abs(sixth - 3.5)
    blue = tl.where(away < 1, value, tl.where(away > 2, least, between))
    return red, green, blue


@triton.jit
def _blur_and_normalise(
    coloured_ptr, of_ptr, out_ptr,
    REACH: tl.constexpr, S: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    crop, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    of_ptr += crop * COLUMNS
    begin = (crop * 3 + channel) * S * S
    pixel = tl.arange(0, BLOCK)
    here = pixel < S * S
    sigma = tl.load(of_ptr + SIGMA)
    if sigma > 0:
        result = tl.zeros([BLOCK], tl.float32)
        total = 0.0
        for i in range(-REACH, REACH + 1):
            row = _mirrored(pixel // S + i, S)
            vertical = tl.exp(-(i * i) / (2 * sigma * sigma))
            total += vertical
            across = tl.zeros([BLOCK], tl.float32)
            for j in range(-REACH, REACH + 1):
                column = _mirrored(pixel % S + j, S)
                level = tl.load(coloured_ptr + begin + row * S + column, mask=here, other=0.0)
                across += tl.exp(-(j * j) / (2 * sigma * sigma)) * level
            result += vertical * across
        result = result / (total * total)
    else:
        result = tl.load(coloured_ptr + begin + pixel, mask=here, other=0.0)
    if tl.load(of_ptr + SOLARISE) > 0:
        result = tl.where(result >= SOLARISE_FROM, 1 - result, result)
    mean = tl.where(channel == 0, MEANS[0], tl.where(channel == 1, MEANS[1], MEANS[2]))
    std = tl.where(channel == 0, STDS[0], tl.where(channel == 1, STDS[1], STDS[2]))
    tl.store(out_ptr + begin + pixel, (result - mean) / std, mask=here)


@triton.jit
def _mirrored(place, S: tl.constexpr):
    """Within 0 to S - 1: beyond a border the picture is seen in a mirror on its last pixel."""
    place = tl.abs(place)
    return tl.where(place > S - 1, 2 * (S - 1) - place, place)
