"""Composites: a shape textured by one photograph, pasted on another. Class, mask and box are known.

They stand in for photographs of objects where no data set is at hand: for training (the class is
the photograph that textures the shape) and for the masks of Figure 4. Training composites are cut
from the left halves of the photographs, test composites from the right halves, foreground and
background alike. Shapes are smooth blobs, stars, ellipses and the silhouette of a horse, turned and
scaled; they cover a twelfth to a third of the image. Everything depends on the config alone, not on
a run's seed.

Shapes: N images, P points of an outline, S side of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.measure import find_contours
from torch import Generator, Tensor

from repro.config.schema import PHOTOGRAPHS, DataConfig
from repro.data.dataset import Dataset
from repro.data.in_memory import MemorySplit
from repro.data.photographs import check_tile, halves, random_tiles
from repro.data.pictures import resize
from repro.randomness import generator

Outline = NDArray[np.float64]  # [P, 2], rows and columns

COVER = (1 / 12, 1 / 3)  # share of the image that a shape may cover
OUTLINE = 96  # points of an outline
MARGIN = 0.04  # of the side, that stays free around a shape


@dataclass(frozen=True)
class Composites:
    """`images_N3SS` uint8, `masks_NSS` bool, `labels_N` the photograph in the foreground."""

    images_N3SS: Tensor
    masks_NSS: Tensor
    labels_N: Tensor


def open_composites(config: DataConfig, device: torch.device | None = None) -> Dataset:
    """Train and test composites of side `config.tile`, resized to `config.resolution`.

    Raises:
        UserError: composites larger than half a photograph.
    """

    def split(part: str) -> MemorySplit:
        made = make_composites(config.tile, _count(config, part), part)
        images = resize(made.images_N3SS, (config.resolution, config.resolution))
        return MemorySplit(images.to(device), made.labels_N)

    return Dataset(config.name, list(PHOTOGRAPHS), split("train"), split("test"))


def make_composites(side: int, each: int, part: str) -> Composites:
    """`each` composites of every class, class by class.

    Args:
        part: "train" (left halves of the photographs) or "test" (right halves).

    Raises:
        UserError: composites larger than half a photograph.
    """
    sources = []
    for name in PHOTOGRAPHS:
        half = halves(name)[0 if part == "train" else 1]
        check_tile(side, half, f"{name} {part}")
        sources.append(half)
    images, masks = [], []
    for label in range(len(sources)):
        random = generator(0, f"composites {part} {side} {label}")
        front = random_tiles(sources[label], side, each, random)
        others = [place for place in range(len(sources)) if place != label]
        chosen = torch.randint(len(others), (each,), generator=random).tolist()
        back = torch.cat([random_tiles(sources[others[c]], side, 1, random) for c in chosen])
        mask = torch.stack([draw_shape(side, random) for _ in range(each)])
        images.append(torch.where(mask[:, None], front, back))
        masks.append(mask)
    labels = torch.arange(len(sources)).repeat_interleave(each)
    return Composites(torch.cat(images), torch.cat(masks), labels)


def draw_shape(side: int, random: Generator) -> Tensor:
    """The mask of one random shape inside the image, bool [S, S]."""
    kind = int(torch.randint(4, (1,), generator=random))
    cover, angle, *place = torch.rand(4, generator=random).tolist()
    area = (COVER[0] + cover * (COVER[1] - COVER[0])) * side**2
    outline_P2 = (_blob, _star, _ellipse)[kind](random) if kind < 3 else _horse()
    outline_P2 = outline_P2 @ _rotation(2 * math.pi * angle).T
    outline_P2 = outline_P2 * math.sqrt(area / _area(outline_P2))
    room = side * (1 - 2 * MARGIN)
    extent_2 = np.ptp(outline_P2, axis=0)
    outline_P2 = outline_P2 * min(1.0, *(room / extent_2))
    low_2, free_2 = outline_P2.min(axis=0), room - np.ptp(outline_P2, axis=0)
    outline_P2 = outline_P2 - low_2 + side * MARGIN + np.asarray(place) * free_2
    image = Image.new("1", (side, side))
    ImageDraw.Draw(image).polygon(outline_P2[:, ::-1].ravel().tolist(), fill=1)
    return torch.from_numpy(np.array(image))


def _count(config: DataConfig, part: str) -> int:
    return config.train_tiles if part == "train" else config.test_tiles


def _polar(radius_P: Outline) -> Outline:
    angle_P = np.linspace(0, 2 * math.pi, len(radius_P), endpoint=False)
    return np.stack([radius_P * np.cos(angle_P), radius_P * np.sin(angle_P)], axis=1)


def _blob(random: Generator) -> Outline:
    """A circle whose radius swings in four random harmonics."""
    angle_P = np.linspace(0, 2 * math.pi, OUTLINE, endpoint=False)
    radius_P = np.ones(OUTLINE)
    for harmonic in range(2, 6):
        size, phase = torch.rand(2, generator=random).tolist()
        radius_P += 0.5 * size / harmonic * np.cos(harmonic * angle_P + 2 * math.pi * phase)
    return _polar(radius_P)


def _star(random: Generator) -> Outline:
    tips = int(torch.randint(4, 8, (1,), generator=random))
    return _polar(np.tile([1.0, 0.45], tips))


def _ellipse(random: Generator) -> Outline:
    ratio = 0.45 + 0.55 * float(torch.rand(1, generator=random))
    return _polar(np.ones(OUTLINE)) @ np.diag([1.0, ratio])


@cache
def _horse() -> Outline:
    black = ~skimage.data.horse()  # type: ignore[no-untyped-call]
    outlines = find_contours(np.pad(black, 1).astype(float), 0.5)  # type: ignore[no-untyped-call]
    longest: Outline = np.asarray(max(outlines, key=len))
    centred: Outline = longest[:: max(1, len(longest) // (4 * OUTLINE))] - longest.mean(axis=0)
    return centred


def _rotation(angle: float) -> Outline:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _area(outline_P2: Outline) -> float:
    """Of a polygon, by the shoelace formula."""
    x, y = outline_P2.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
