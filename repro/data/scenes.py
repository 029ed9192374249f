"""Images with masks of their objects (Figure 4): PASCAL VOC 2012, or composites made here.

Shapes: O objects, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from repro.config.schema import PHOTOGRAPHS
from repro.data.composites import make_composites
from repro.data.disk.masks import VOID, read_marks
from repro.data.disk.orientation import STORED, as_stored, orientation_of, upright
from repro.data.pictures import levels, open_picture, picture, resize
from repro.errors import UserError

VOC_SIDE = 480  # pixels, as in the authors' visualiser
COMPOSITE_SIDE = 128
COMPOSITES_A_CLASS = 64


@dataclass(frozen=True)
class Scene:
    """`image_3HW` uint8; `objects_OHW` and `void_HW` bool; all of them as stored."""

    image_3HW: Tensor
    objects_OHW: Tensor
    void_HW: Tensor
    name: str = ""
    held: int = STORED  # the picture's orientation


class Scenes(Sized, Protocol):
    """Scenes, read one at a time."""

    def __iter__(self) -> Iterator[Scene]: ...


@dataclass(frozen=True)
class VocScenes:
    """The validation images of VOCdevkit/VOC2012 with the masks of single objects."""

    root: Path
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Scene]:
        for name in self.names:
            photo = self.root / "JPEGImages" / f"{name}.jpg"
            image = open_picture(photo)
            file = self.root / "SegmentationObject" / f"{name}.png"
            marks_HW, held = read_marks(file), orientation_of(photo)
            if marks_HW.shape != image.shape[1:]:  # perhaps drawn on the upright picture
                marks_HW = as_stored(marks_HW, held)
            if marks_HW.shape != image.shape[1:]:
                sizes = f"{list(marks_HW.shape)}, its image {list(image.shape[1:])}"
                raise UserError(f"{file}: this mask is {sizes}")
            numbers = [n for n in torch.unique(marks_HW).tolist() if n not in (0, VOID)]
            objects = [marks_HW == number for number in numbers]
            nothing = torch.zeros(0, *marks_HW.shape, dtype=torch.bool)
            stacked = torch.stack(objects) if objects else nothing
            yield Scene(image, stacked, marks_HW == VOID, name, held)


@dataclass(frozen=True)
class CompositeScenes:
    """Test composites; each has one object and no void."""

    side: int = COMPOSITE_SIDE
    each: int = COMPOSITES_A_CLASS

    def __len__(self) -> int:
        return self.each * len(PHOTOGRAPHS)

    def __iter__(self) -> Iterator[Scene]:
        made = make_composites(self.side, self.each, "test")
        void = torch.zeros(self.side, self.side, dtype=torch.bool)
        for place, (image, mask) in enumerate(zip(made.images_N3SS, made.masks_NSS, strict=True)):
            yield Scene(image, mask[None], void, f"composite {place}")


def open_voc(root: Path) -> VocScenes:
    """The validation part of VOC 2012; `root` is VOC2012, VOCdevkit or what holds it.

    Raises:
        UserError: a folder that is not laid out as the benchmark is.
    """
    inside = "ImageSets/Segmentation/val.txt"
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (folder / inside).is_file():
            names = (folder / inside).read_text().split()
            if not names:
                raise UserError(f"{folder / inside}: names no image")
            return VocScenes(folder, names)
    raise UserError(f"{root}: no {inside} there; give the folder VOC2012 of PASCAL VOC")


def looked_at(scene: Scene) -> Scene:
    """Upright, picture and masks together."""
    if scene.held == STORED:
        return scene
    return Scene(
        upright(scene.image_3HW, scene.held),
        upright(scene.objects_OHW, scene.held),
        upright(scene.void_HW, scene.held),
        scene.name,
    )


def squeezed(scene: Scene, side: int) -> Scene:
    """A square, as the authors' visualiser makes it: the image by PIL, bilinear."""
    size = (side, side)
    if scene.void_HW.shape == size:
        return scene
    small = picture(scene.image_3HW).resize(size, Image.Resampling.BILINEAR)
    return replace(resized(scene, size), image_3HW=levels(small))


def resized(scene: Scene, size: tuple[int, int]) -> Scene:
    """At (height, width): the image bicubic with antialiasing, masks by the nearest pixel."""
    if scene.void_HW.shape == size:
        return scene
    masks = torch.cat([scene.objects_OHW, scene.void_HW[None]])[None].to(torch.uint8)
    masks_MHW = interpolate(masks, size=size, mode="nearest-exact")[0].bool()
    image = resize(scene.image_3HW[None], size)[0]
    return Scene(image, masks_MHW[:-1], masks_MHW[-1], scene.name, scene.held)
