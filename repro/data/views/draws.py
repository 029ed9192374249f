"""Every random parameter of a batch of views, drawn on the CPU before a pixel is touched.

Parameters follow torchvision's RandomResizedCrop and ColorJitter (each image has its own order of
the four colour operations). They are drawn view by view from one generator, so that they are the
same whatever the device.

A `Plan` says how views of one size are made of them by few operations, each on many crops: crops
are rearranged so that those to which an operation applies lie side by side. The turn of hue is the
costliest of the four colour operations and is done once, for all crops: brightness, contrast and
saturation come in up to three rounds before it and up to three after it, in each crop's own order.

Shapes: B images, V views of one size, M = V x B crops (view-major), J of them jittered, S blurred,
A attempts at a crop, R rearrangements, W taps of a blur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from repro.config.schema import ViewsConfig
from repro.data.views.kinds import View

ATTEMPTS = 10  # of torchvision's RandomResizedCrop
RATIO = (3 / 4, 4 / 3)  # of a crop's width to its height
HUE = 3  # of the colour operations brightness, contrast, saturation, hue
IDLE = 3  # in a round, where hue is no operation
APART = 4  # not jittered at all
ROUNDS = 3  # before the turn of hue, and as many after it


@dataclass(frozen=True)
class Draws:
    """The parameters of V views of one size; those of jitter and blur for the chosen crops."""

    flip_VB: Tensor
    box_VB4: Tensor  # top, left, height, width in whole pixels
    jittered_M: Tensor
    factor_4J: Tensor  # brightness, contrast, saturation; turn of hue as a share of the circle
    order_J4: Tensor  # order_J4[:, p]: the operation at place p
    grey_M: Tensor
    blurred_M: Tensor
    sigma_S: Tensor
    solarised_M: Tensor


def draw(
    kinds: Sequence[View],
    batch: int,
    height: int,
    width: int,
    config: ViewsConfig,
    random: Generator,
) -> Draws:
    """The parameters of views of one size and scale."""
    crops, factors, orders, mixes, sigmas, lasts = [], [], [], [], [], []
    for kind in kinds:
        crops.append(torch.rand((4 + 2 * ATTEMPTS) * batch, generator=random))
        jittered = int((crops[-1][-batch:] < config.jitter).sum())
        factors.append(torch.rand(4, jittered, generator=random))
        orders.append(torch.rand(jittered, 4, generator=random))
        mixes.append(torch.rand(2, batch, generator=random))
        blurred = int((mixes[-1][1] < kind.blur).sum())
        sigmas.append(torch.rand(blurred, generator=random))
        lasts.append(torch.rand(batch, generator=random))
    tries = ATTEMPTS * batch
    flip_VB, area, ratio, top_VB, left_VB, jitter_VB = torch.split(
        torch.stack(crops), [batch, tries, tries, batch, batch, batch], dim=1
    )
    factor_4J = torch.cat(factors, dim=1)
    spans = [(1 - s, 1 + s) for s in (config.brightness, config.contrast, config.saturation)]
    for factor_J, span in zip(factor_4J, [*spans, (-config.hue, config.hue)], strict=True):
        factor_J.copy_(_between(factor_J, span))
    grey_VB, blur_VB = torch.stack(mixes, dim=1)
    chances_V1 = torch.tensor([[kind.blur, kind.solarise] for kind in kinds])[..., None].unbind(1)
    return Draws(
        flip_VB=flip_VB < config.flip,
        box_VB4=boxes(
            area.view(-1, batch, ATTEMPTS),
            ratio.view(-1, batch, ATTEMPTS),
            top_VB,
            left_VB,
            (height, width),
            kinds[0].scale,
        ),
        jittered_M=(jitter_VB < config.jitter).flatten(),
        factor_4J=factor_4J,
        order_J4=torch.cat(orders).argsort(dim=1),
        grey_M=(grey_VB < config.grey).flatten(),
        blurred_M=(blur_VB < chances_V1[0]).flatten(),
        sigma_S=_between(torch.cat(sigmas), config.blur_sigma),
        solarised_M=(torch.stack(lasts) < chances_V1[1]).flatten(),
    )


def boxes(
    area_VBA: Tensor,
    ratio_VBA: Tensor,
    top_VB: Tensor,
    left_VB: Tensor,
    sides: tuple[int, int],
    scale: tuple[float, float],
) -> Tensor:
    """Boxes in whole pixels, [V, B, 4], as RandomResizedCrop makes them of uniform numbers.

    Area uniform in `scale`, log-uniform aspect ratio in [3/4, 4/3], the first of ten attempts that
    fits; else the whole image, cut to the nearest allowed ratio.
    """
    height, width = sides
    area_VBA = height * width * _between(area_VBA, scale)
    ratio_VBA = _between(ratio_VBA, (math.log(RATIO[0]), math.log(RATIO[1]))).exp()
    wide_VBA = (area_VBA * ratio_VBA).sqrt_().round_()
    high_VBA = (area_VBA / ratio_VBA).sqrt_().round_()
    fits_VBA = (wide_VBA > 0) & (wide_VBA <= width) & (high_VBA > 0) & (high_VBA <= height)
    first_VB1 = fits_VBA.int().argmax(dim=2, keepdim=True)
    none_VB = ~fits_VBA.any(dim=2)
    whole_height = float(min(height, round(width / RATIO[0])))
    whole_width = float(min(width, round(height * RATIO[1])))
    high_VB = torch.where(none_VB, whole_height, high_VBA.gather(2, first_VB1).squeeze(2))
    wide_VB = torch.where(none_VB, whole_width, wide_VBA.gather(2, first_VB1).squeeze(2))
    room_VB, across_VB = height - high_VB, width - wide_VB
    top_VB = torch.where(none_VB, (room_VB / 2).floor(), (top_VB * (room_VB + 1)).floor())
    left_VB = torch.where(none_VB, (across_VB / 2).floor(), (left_VB * (across_VB + 1)).floor())
    return torch.stack([top_VB, left_VB, high_VB, wide_VB], dim=2)


def _between(uniform: Tensor, bounds: tuple[float, float]) -> Tensor:
    return uniform * (bounds[1] - bounds[0]) + bounds[0]


class Parameters(NamedTuple):
    """What of a plan goes to the device.

    `origin_RM[r]` says from which place each crop comes: before each round, before grey and blur
    (if any crop has them), before solarising (if any), and last back into the order of the views.
    """

    box_VB4: Tensor
    flip_VB: Tensor
    origin_RM: Tensor
    factor_RM: Tensor
    turn_J: Tensor  # radians
    kernel_SW: Tensor


@dataclass(frozen=True)
class Plan:
    """How V views of one size are made: which crops have what, and how much of it."""

    size: int
    jittered: int  # crops, the first ones in every round
    ends: Sequence[Sequence[int]]  # of brightness, contrast, saturation in each round
    grey: slice
    blurred: slice
    solarised: int  # crops, the first ones
    parameters: Parameters


def plan(drawn: Draws, size: int, widest_sigma: float) -> Plan:
    """How the views that were drawn are made.

    Args:
        widest_sigma: that a blur may have; all reach three times as far, or as the picture does.
    """
    jittered_M, grey_M = drawn.jittered_M.numpy(), drawn.grey_M.numpy()
    blurred_M, solarised_M = drawn.blurred_M.numpy(), drawn.solarised_M.numpy()
    crops, jittered, blurred = len(jittered_M), int(jittered_M.sum()), int(blurred_M.sum())
    rounds = 2 * ROUNDS if jittered else 0

    # Crops are sorted by what they have: the operations of a round in their order, then the rest.
    keys = np.full((rounds, crops), APART, np.int8)
    keys[:, jittered_M] = _rounds(drawn.order_J4.numpy())[:rounds]
    factor_5M = np.ones((APART + 1, crops), np.float32)  # the last two are never used
    factor_5M[: HUE + 1, jittered_M] = drawn.factor_4J.numpy()
    factor_RM = np.take_along_axis(factor_5M, keys, axis=0)
    ends = [np.bincount(key, minlength=IDLE)[:IDLE].cumsum().tolist() for key in keys]
    further = []
    if grey_M.any() or blurred:
        further.append(np.where(grey_M, blurred_M, 3 - blurred_M))  # grey, both, blurred, neither
    if solarised_M.any():
        further.append(~solarised_M)
    keys = np.concatenate([keys, np.array([*further, np.zeros(crops)], np.int8)])
    at_RM = np.argsort(keys, axis=1, kind="stable")  # at_RM[r, p]: the crop at place p

    factor_RM = np.take_along_axis(factor_RM, at_RM[:rounds], axis=1)
    turn_M = factor_5M[HUE] * np.float32(2) * np.float32(math.pi)
    sigma_M = np.ones(crops, np.float32)
    sigma_M[blurred_M] = drawn.sigma_S.numpy()
    only_grey = int((grey_M & ~blurred_M).sum())
    blur = slice(only_grey, only_grey + blurred)
    parameters = Parameters(
        drawn.box_VB4,
        drawn.flip_VB,
        origin_RM=torch.from_numpy(_origins(at_RM)),
        factor_RM=torch.from_numpy(factor_RM),
        turn_J=torch.from_numpy(turn_M[at_RM[min(ROUNDS, rounds) - 1, :jittered]]),
        kernel_SW=kernels(torch.from_numpy(sigma_M[at_RM[rounds, blur]]), size, widest_sigma),
    )
    grey = slice(0, int(grey_M.sum()))
    return Plan(size, jittered, ends, grey, blur, int(solarised_M.sum()), parameters)


def _rounds(order_J4: NDArray[Any]) -> NDArray[Any]:
    """The operation of each round for each crop, [R, J]: before the turn of hue, then after."""
    order_4J = order_J4.T
    hue_J, round_R1 = (order_4J == HUE).argmax(axis=0), np.arange(ROUNDS)[:, None]
    after_RJ = hue_J + 1 + round_R1
    before = np.where(round_R1 < hue_J, order_4J[:ROUNDS], IDLE)
    after = np.take_along_axis(order_4J, np.minimum(after_RJ, HUE), axis=0)
    return np.concatenate([before, np.where(after_RJ <= HUE, after, IDLE)])


def _origins(at_RM: NDArray[Any]) -> NDArray[Any]:
    """From which place of the arrangement before, at first that of the views, each crop comes."""
    place_of_RM, places = np.empty_like(at_RM), np.arange(at_RM.shape[1])[None]
    np.put_along_axis(place_of_RM, at_RM, places, axis=1)
    return np.take_along_axis(np.concatenate([places, place_of_RM[:-1]]), at_RM, axis=1)


def kernels(sigma_S: Tensor, size: int, widest_sigma: float) -> Tensor:
    """Gaussians, each of sum 1: [S, W]."""
    reach = min(math.ceil(3 * widest_sigma), size - 1)
    distance_W = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weight_SW = torch.exp(-distance_W.pow(2) / (2 * sigma_S[:, None].pow(2)))
    return weight_SW / weight_SW.sum(-1, keepdim=True)
