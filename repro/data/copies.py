"""Manipulated copies and the originals they are of (Table 4): Copydays, or copies made here.

Copydays lies as its authors publish it: original/*.jpg and strong/*.jpg, where the first four
characters of a name say which picture it is. Distractors and the pictures from which whitening is
learned are folders beside it, `distractors` and `whitening`.

Where no benchmark is at hand, originals are windows of the bundled photographs. A strong copy is
compressed after two manipulations: cropped, turned, mirrored, blurred, faded or overprinted.
Distractors and whitening come from other windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Generator, Tensor

from repro.config.schema import PHOTOGRAPHS
from repro.data.photographs import halves, random_tiles
from repro.data.pictures import Pictures, compressed, levels, picture, pictures_in
from repro.errors import UserError
from repro.randomness import generator

PREFIX = 4  # characters of a name that say which picture it is
WINDOW = 96  # pixels of a made original
ORIGINALS, DISTRACTORS, WHITENING = 4, 16, 40  # of each photograph
COPIES = 2  # of each original
MANIPULATIONS = 2  # that every made copy suffers


@dataclass(frozen=True)
class Copies:
    """A copy-detection benchmark; images are uint8 [3, H, W].

    `matches[i]` are the places of query i's originals in the database, which has originals first,
    then distractors. Without pictures for whitening there is none.
    """

    queries: Sequence[Tensor]
    database: Sequence[Tensor]
    whitening: Sequence[Tensor]
    matches: Sequence[Sequence[int]]


def open_copydays(root: Path) -> Copies:
    """ROOT/original, ROOT/strong and, where they are there, ROOT/distractors and ROOT/whitening.

    Raises:
        UserError: a missing or empty folder, or a copy without original.
    """
    originals, strong = pictures_in(root / "original"), pictures_in(root / "strong")
    matches = []
    for copy in strong:
        begin = copy.name[:PREFIX]
        sources = [n for n, file in enumerate(originals) if file.name[:PREFIX] == begin]
        if not sources:
            raise UserError(f"{copy}: no original begins with {begin}")
        matches.append(sources)
    further = {
        name: pictures_in(root / name) if (root / name).is_dir() else []
        for name in ("distractors", "whitening")
    }
    database = [*originals, *further["distractors"]]
    return Copies(Pictures(strong), Pictures(database), Pictures(further["whitening"]), matches)


def make_copies() -> Copies:
    """Originals and strong copies of all sixteen photographs, the same every time."""
    originals: list[Tensor] = []
    copies: list[Tensor] = []
    distractors: list[Tensor] = []
    whitening: list[Tensor] = []
    matches: list[list[int]] = []
    for name in PHOTOGRAPHS:
        (left, right), random = halves(name), generator(0, f"copies {name}")
        for original in random_tiles(left, WINDOW, ORIGINALS, random):
            originals.append(original)
            for _ in range(COPIES):
                copies.append(strong_copy(original, random))
                matches.append([len(originals) - 1])
        others = random_tiles(right, WINDOW, DISTRACTORS + WHITENING, random)
        distractors += list(others[:DISTRACTORS])
        whitening += list(others[DISTRACTORS:])
    return Copies(copies, originals + distractors, whitening, matches)


def strong_copy(original: Tensor, random: Generator) -> Tensor:
    """A picture after two random manipulations and strong compression."""
    order = torch.randperm(len(MANIPULATE), generator=random)[:MANIPULATIONS].tolist()
    image = picture(original)
    for number in order:
        image = MANIPULATE[number](image, random)
    quality = int(torch.randint(5, 20, (1,), generator=random))
    return compressed(levels(image), quality)


def _crop(image: Image.Image, random: Generator) -> Image.Image:
    """Half to four fifths of each side, stretched to the old size."""
    width, height = (int(side * (0.5 + 0.3 * _draw(random))) for side in image.size)
    left = int(_draw(random) * (image.width - width))
    top = int(_draw(random) * (image.height - height))
    return image.crop((left, top, left + width, top + height)).resize(image.size)


def _turn(image: Image.Image, random: Generator) -> Image.Image:
    return image.rotate(90 * (_draw(random) - 0.5), Image.Resampling.BICUBIC)


def _blur(image: Image.Image, random: Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1 + 2 * _draw(random)))


def _overprint(image: Image.Image, random: Generator) -> Image.Image:
    """Three lines of text on a bar of one colour."""
    image, colour = image.copy(), tuple(int(255 * _draw(random)) for _ in range(3))
    top, draw = int(_draw(random) * image.height * 0.6), ImageDraw.Draw(image)
    draw.rectangle((0, top, image.width, top + image.height * 0.35), fill=colour)
    for line in range(3):
        draw.text((4, top + 2 + 10 * line), "no copy of anything", fill=(255, 255, 255))
    return image


def _fade(image: Image.Image, random: Generator) -> Image.Image:
    """Contrast down to a third, brightness anywhere."""
    low = int(170 * _draw(random))
    return image.point(lambda level: low + level / 3)


def _mirror(image: Image.Image, _random: Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _draw(random: Generator) -> float:
    return float(torch.rand(1, generator=random))


MANIPULATE: tuple[Callable[[Image.Image, Generator], Image.Image], ...] = (
    _crop, _turn, _blur, _overprint, _fade, _mirror,
)  # fmt: skip
