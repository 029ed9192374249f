"""Every random parameter of a batch of views, drawn on the CPU before a pixel is touched.

Parameters follow torchvision's RandomResizedCrop and ColorJitter (each image has its own order of
the four colour operations). They are drawn view by view and image by image from one generator, so
that they are the same whatever the device.

A `Plan` says how views of one size are made of them with few operations, each on many crops: crops
are rearranged so that those to which an operation applies lie side by side. The change of hue is
the costliest of the four colour operations and is done once: brightness, contrast and saturation
come in up to three rounds before it and up to three after it, in each crop's own order.

Shapes: B images, V views of one size, M = V x B crops (view-major), J of them jittered, R
rearrangements, W taps of a blur.
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

CROP_ATTEMPTS = 10  # torchvision's RandomResizedCrop
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
IDLE = 3  # in a round: hue is no operation of a round
ROUNDS = 3  # before the change of hue, and as many after it


@dataclass(frozen=True)
class Draws:
    """The parameters of one view of B images; those of jitter and blur for the chosen ones."""

    flip_B: Tensor
    box_B4: Tensor  # top, left, height, width in whole pixels
    jittered_B: Tensor
    factor_J4: Tensor  # brightness, contrast, saturation; turn of hue as a share of the circle
    order_J4: Tensor  # order_J4[:, p]: the operation at place p
    grey_B: Tensor
    blurred_B: Tensor
    sigma_S: Tensor  # of the blurred ones
    solarised_B: Tensor


def draw_view(
    batch: int, height: int, width: int, kind: View, config: ViewsConfig, random: Generator
) -> Draws:
    flip_B = happens(batch, config.flip, random)
    box_B4 = draw_crops(batch, height, width, kind.scale, random)
    jittered_B = happens(batch, config.jitter, random)
    jittered = int(jittered_B.sum())
    factors = [
        _uniform((jittered,), (1 - strength, 1 + strength), random)
        for strength in (config.brightness, config.contrast, config.saturation)
    ]
    turn_J = _uniform((jittered,), (-config.hue, config.hue), random)
    order_J4 = torch.rand(jittered, 4, generator=random).argsort(dim=1)
    grey_B = happens(batch, config.grey, random)
    blurred_B = happens(batch, kind.blur, random)
    sigma_S = _uniform((int(blurred_B.sum()),), config.blur_sigma, random)
    return Draws(
        flip_B,
        box_B4,
        jittered_B,
        torch.stack([*factors, turn_J], dim=1),
        order_J4,
        grey_B,
        blurred_B,
        sigma_S,
        solarised_B=happens(batch, kind.solarise, random),
    )


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


def happens(batch: int, probability: float, random: Generator) -> Tensor:
    return torch.rand(batch, generator=random) < probability


def _uniform(shape: tuple[int, ...], bounds: tuple[float, float], random: Generator) -> Tensor:
    return torch.rand(shape, generator=random) * (bounds[1] - bounds[0]) + bounds[0]


class Parameters(NamedTuple):
    """What of a plan goes to the device.

    `rearrange_RM[r]` says from which place each crop comes: before each round, before grey and blur
    (if any crop has them), before solarising (if any), and last back into the order of the views.
    """

    box_VB4: Tensor
    flip_VB: Tensor
    rearrange_RM: Tensor
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


def plan(draws: list[Draws], size: int, config: ViewsConfig) -> Plan:
    """How the views that were drawn are made, all of one size."""

    def flags(name: str) -> NDArray[Any]:
        return torch.cat([getattr(draw, name) for draw in draws]).numpy()

    jittered, order_J4 = flags("jittered_B"), flags("order_J4")
    grey, blurred, solarised = flags("grey_B"), flags("blurred_B"), flags("solarised_B")
    count = int(jittered.sum())
    factor_J4 = torch.cat([draw.factor_J4 for draw in draws])

    # What decides a crop's place: the least come first.
    keys: list[NDArray[Any]] = []
    ends: list[list[int]] = []
    factor_RM = np.ones((0, len(jittered)), np.float32)
    if count:
        operation_RM = np.full((2 * ROUNDS, len(jittered)), IDLE + 1)  # of the others
        operation_RM[:, jittered] = _rounds(order_J4)
        keys += list(operation_RM)
        ends = [np.bincount(o, minlength=IDLE + 1)[:IDLE].cumsum().tolist() for o in operation_RM]
        factor_M4 = np.ones((len(jittered), HUE + 2), np.float32)
        factor_M4[jittered, :HUE] = factor_J4[:, :HUE].numpy()
        factor_RM = np.take_along_axis(factor_M4, operation_RM.T, axis=1).T
    if grey.any() or blurred.any():
        keys.append(np.where(grey, blurred, 3 - blurred))  # grey, both, blurred, neither
    if solarised.any():
        keys.append(~solarised)
    places_RM = np.stack([*(np.argsort(key, kind="stable") for key in keys), np.arange(len(grey))])
    turn_M = np.zeros(len(jittered), np.float32)
    turn_M[jittered] = (factor_J4[:, HUE] * 2 * math.pi).numpy()
    sigma_M = np.ones(len(blurred), np.float32)
    sigma_M[blurred] = torch.cat([draw.sigma_S for draw in draws]).numpy()
    at_hue_M, at_blur_M = places_RM[ROUNDS - 1 if count else 0], places_RM[len(factor_RM)]
    only_grey = int((grey & ~blurred).sum())
    blur = slice(only_grey, only_grey + int(blurred.sum()))
    parameters = Parameters(
        box_VB4=torch.stack([draw.box_B4 for draw in draws]),
        flip_VB=torch.stack([draw.flip_B for draw in draws]),
        rearrange_RM=torch.from_numpy(_steps(places_RM)),
        factor_RM=torch.from_numpy(_in_place(factor_RM, places_RM[: len(factor_RM)])),
        turn_J=torch.from_numpy(turn_M[at_hue_M[:count]]),
        kernel_SW=kernels(torch.from_numpy(sigma_M[at_blur_M[blur]]), size, config),
    )
    counted = slice(0, int(grey.sum()))
    return Plan(size, count, ends, counted, blur, int(solarised.sum()), parameters)


def _in_place(values_RM: NDArray[Any], places_RM: NDArray[Any]) -> NDArray[Any]:
    """The values of the crops that stand at each place."""
    return np.take_along_axis(values_RM, places_RM, axis=1)


def _rounds(order_J4: NDArray[Any]) -> NDArray[Any]:
    """The operation of each round for each crop, [R, J]: before the turn of hue, then after."""
    hue_J = (order_J4 == HUE).argmax(axis=1)
    round_R1 = np.arange(ROUNDS)[:, None]
    before, after = np.broadcast_to(round_R1, (ROUNDS, len(hue_J))), hue_J + 1 + round_R1
    place_RJ = np.concatenate([before, np.minimum(after, 3)])
    active_RJ = np.concatenate([before < hue_J, after < 4])
    return np.where(active_RJ, np.take_along_axis(order_J4, place_RJ.T, axis=1).T, IDLE)


def _steps(places_RM: NDArray[Any]) -> NDArray[Any]:
    """From which place of the step before each crop comes; places_RM[r, p]: the crop at place p."""
    place_of_RM = np.argsort(places_RM, axis=1)
    before_RM = np.concatenate([np.arange(places_RM.shape[1])[None], place_of_RM[:-1]])
    return np.take_along_axis(before_RM, places_RM, axis=1)


def kernels(sigma_S: Tensor, size: int, config: ViewsConfig) -> Tensor:
    """Gaussians that reach as far as the widest blur's three sigma, and not beyond the picture."""
    reach = min(math.ceil(3 * config.blur_sigma[1]), size - 1)
    distance_W = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weight_SW = torch.exp(-distance_W.pow(2) / (2 * sigma_S[:, None].pow(2)))
    return weight_SW / weight_SW.sum(-1, keepdim=True)
