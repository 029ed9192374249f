"""Videos with the masks of their objects (Table 5): DAVIS 2017, or clips made here.

DAVIS lies as its authors publish it: JPEGImages/480p/NAME/*.jpg, Annotations/480p/NAME/*.png and
ImageSets/2017/val.txt.

Where no benchmark is at hand, clips are moving composites: one or two shapes, each textured by a
photograph, wander and turn over another photograph that moves a little itself.

Shapes: T frames, H x W pixels, S side of a clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from repro.config.schema import PHOTOGRAPHS
from repro.data.composites import draw_shape
from repro.data.disk.masks import read_marks
from repro.data.disk.orientation import STORED, upright
from repro.data.photographs import halves, load_photograph, random_tiles
from repro.data.pictures import Pictures, open_upright, pictures_in, turned
from repro.errors import UserError
from repro.randomness import generator

CLIPS, FRAMES, CLIP_SIDE = 12, 10, 128
DRIFT = 1  # pixels a frame of the background


@dataclass(frozen=True)
class Video:
    """`marks[t]`: the number of the object at every pixel of frame t, uint8 [H, W]; 0 is none, 255
    is not labelled. Frames are uint8 [3, H, W]; those of files upright, as OpenCV reads them.
    """

    name: str
    frames: Sequence[Tensor]
    marks: Sequence[Tensor]

    def with_marks_turned(self) -> Video:
        """Marks turned as their frames are."""
        held = turned(self.frames)
        return replace(self, marks=TurnedMarks(self.marks, held)) if held else self


@dataclass(frozen=True)
class TurnedMarks(Sequence[Tensor]):
    """Marks, by place as the pictures were held that they belong to."""

    marks: Sequence[Tensor]
    held: dict[int, int]

    def __len__(self) -> int:
        return len(self.marks)

    def __getitem__(self, place: Any) -> Any:
        return upright(self.marks[place], self.held.get(place, STORED))


class Videos(Sized, Protocol):
    """Videos, one at a time."""

    def __iter__(self) -> Iterator[Video]: ...


@dataclass(frozen=True)
class Davis:
    root: Path
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Video]:
        for name in self.names:
            frames = pictures_in(self.root / "JPEGImages" / "480p" / name)
            masks = self.root / "Annotations" / "480p" / name
            files = [masks / f"{frame.stem}.png" for frame in frames]
            for file in files:
                if not file.is_file():
                    raise UserError(f"{file}: no such mask")
            yield Video(name, Pictures(frames, open_upright), Pictures(files, read_marks))


@dataclass(frozen=True)
class MadeClips:
    count: int = CLIPS
    frames: int = FRAMES
    side: int = CLIP_SIDE

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Video]:
        for number in range(self.count):
            frames, marks = make_clip(number, self.frames, self.side)
            yield Video(f"clip {number}", list(frames), list(marks))


def open_davis(root: Path) -> Davis:
    """The validation part of DAVIS 2017; `root` is DAVIS or what holds it.

    Raises:
        UserError: a folder that is not laid out as the benchmark is.
    """
    inside = "ImageSets/2017/val.txt"
    for folder in (root, root / "DAVIS"):
        if (folder / inside).is_file():
            names = (folder / inside).read_text().split()
            if not names:
                raise UserError(f"{folder / inside}: names no video")
            return Davis(folder, names)
    raise UserError(f"{root}: no {inside} there; give the folder DAVIS of DAVIS 2017")


def make_clip(number: int, frames: int, side: int) -> tuple[Tensor, Tensor]:
    """The frames of a clip, uint8 [T, 3, S, S], and its marks, uint8 [T, S, S].

    Clips with an odd number have two objects, of which the second passes in front of the first.
    """
    random = generator(0, f"clip {number} {side}")
    order = torch.randperm(len(PHOTOGRAPHS), generator=random).tolist()
    margin = DRIFT * frames
    behind = _texture(order[0], side + margin, random)
    images = torch.stack([behind[:, d : d + side, d : d + side] for d in range(0, margin, DRIFT)])
    marks = torch.zeros(frames, side, side, dtype=torch.uint8)
    for label in range(1, 2 + number % 2):
        texture, shape = _texture(order[label], side, random), draw_shape(side, random)
        step = ((torch.rand(2, generator=random) - 0.5) * side / 16).tolist()
        turn = 6 * (float(torch.rand(1, generator=random)) - 0.5)
        for time in range(frames):
            moved = {"translate": [round(s * time) for s in step], "scale": 1.0, "shear": [0.0]}
            front = affine(texture, turn * time, interpolation=InterpolationMode.BILINEAR, **moved)
            mask = affine(shape[None].to(torch.uint8), turn * time, **moved)[0].bool()
            images[time] = torch.where(mask, front, images[time])
            marks[time][mask] = label
    return images, marks


def _texture(photograph: int, side: int, random: Generator) -> Tensor:
    """A window of the right half, or of the whole photograph where that is too narrow."""
    name = PHOTOGRAPHS[photograph]
    _, half = halves(name)
    image = half if side <= min(half.shape[1:]) else load_photograph(name)
    return random_tiles(image, side, 1, random)[0]
