"""The sixteen photographs that scikit-image ships in its wheel, cut into tiles: no download.

The task is "which photograph is this tile from". Train tiles come from the left half of each
photograph and test tiles from the right half, so no pixel is in both. Positions are drawn once from
a fixed generator: the tiles depend on the config alone, not on the run's seed.
"""

from __future__ import annotations

import numpy as np
import skimage.data
import torch
from torch import Tensor

from repro.config.schema import PHOTOGRAPHS, DataConfig
from repro.data.dataset import Dataset
from repro.data.in_memory import MemorySplit
from repro.data.pictures import resize
from repro.errors import UserError
from repro.randomness import generator


def open_photographs(config: DataConfig, device: torch.device | None = None) -> Dataset:
    """Cut the tiles, and keep them on `device`.

    Raises:
        UserError: a tile larger than half a photograph.
    """
    train: list[Tensor] = []
    test: list[Tensor] = []
    for name in PHOTOGRAPHS:
        left, right = halves(name)
        for tiles, image, count, part in (
            (train, left, config.train_tiles, "train"),
            (test, right, config.test_tiles, "test"),
        ):
            tiles.append(cut_tiles(image, config, count, f"{name} {part}"))
    return Dataset(
        name=config.name,
        classes=list(PHOTOGRAPHS),
        train=_split(train, device),
        test=_split(test, device),
    )


def load_photograph(name: str) -> Tensor:
    """uint8 [3, H, W]; grey photographs are repeated over the channels."""
    pixels = np.asarray(getattr(skimage.data, name)())
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def halves(name: str) -> tuple[Tensor, Tensor]:
    """The left half of a photograph, for training, and the right one, for tests."""
    photograph = load_photograph(name)
    middle = photograph.shape[-1] // 2
    return photograph[..., :middle], photograph[..., middle:]


def cut_tiles(image: Tensor, config: DataConfig, count: int, purpose: str) -> Tensor:
    """`count` tiles at random positions of a uint8 image, [count, 3, resolution, resolution]."""
    check_tile(config.tile, image, purpose)
    random = generator(0, f"tiles {purpose} {config.tile}")
    tiles = random_tiles(image, config.tile, count, random)
    return resize(tiles, (config.resolution, config.resolution))


def check_tile(side: int, image: Tensor, purpose: str) -> None:
    """Raises: UserError, if a square of this side does not fit into half a photograph."""
    _, height, width = image.shape
    if side > min(height, width):
        raise UserError(
            f"data.tile={side} is larger than half a photograph "
            f"({purpose.split()[0]}: {height}x{width}); use at most {min(height, width)}"
        )


def random_tiles(image: Tensor, side: int, count: int, random: torch.Generator) -> Tensor:
    """Squares at random positions of an image [3, H, W]: [count, 3, side, side]."""
    _, height, width = image.shape
    tops = torch.randint(height - side + 1, (count,), generator=random).tolist()
    lefts = torch.randint(width - side + 1, (count,), generator=random).tolist()
    return torch.stack(
        [image[:, t : t + side, x : x + side] for t, x in zip(tops, lefts, strict=True)]
    )


def _split(tiles: list[Tensor], device: torch.device | None) -> MemorySplit:
    labels = torch.arange(len(tiles)).repeat_interleave(len(tiles[0]))
    return MemorySplit(torch.cat(tiles).to(device), labels)
