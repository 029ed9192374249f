"""Scenes from a folder laid out as PASCAL VOC 2012, and from composites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from repro.data.scenes import CompositeScenes, Scene, open_voc, resized
from repro.errors import UserError

MARKS = np.array([[0, 0, 255, 1], [0, 2, 255, 1], [0, 2, 255, 1]], dtype=np.uint8)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2012 with one image of two objects and one without any."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationObject", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n2007_000042\n")
    for name, marks in (("2007_000033", MARKS), ("2007_000042", np.zeros_like(MARKS))):
        Image.new("RGB", (4, 3), (200, 10, 10)).save(root / "JPEGImages" / f"{name}.jpg")
        mask = Image.fromarray(marks).convert("P")
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [224] * 759)
        mask.save(root / "SegmentationObject" / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_objects_and_void_are_read_from_the_benchmarks_own_layout(voc: Path, inside: str) -> None:
    scenes = open_voc(voc / inside)
    assert len(scenes) == 2
    with_objects, without = scenes
    marks = torch.from_numpy(MARKS)
    assert torch.equal(with_objects.objects_OHW, torch.stack([marks == 1, marks == 2]))
    assert torch.equal(with_objects.void_HW, marks == 255)
    assert with_objects.image_3HW.shape == (3, 3, 4)
    assert without.objects_OHW.shape == (0, 3, 4)


def test_a_folder_that_is_no_voc_and_a_mask_that_is_none_are_named(
    voc: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no ImageSets/Segmentation/val\.txt there"):
        open_voc(tmp_path / "elsewhere")
    mask = voc / "VOCdevkit/VOC2012/SegmentationObject/2007_000033.png"
    Image.new("RGB", (4, 3)).save(mask)
    with pytest.raises(UserError, match="a mask is an indexed picture, this one is RGB"):
        list(open_voc(voc))
    Image.new("L", (5, 3)).save(mask)
    with pytest.raises(UserError, match=r"this mask is \[3, 5\], its image \[3, 4\]"):
        list(open_voc(voc))
    mask.unlink()
    with pytest.raises(UserError, match="cannot read this mask"):
        list(open_voc(voc))


def test_composites_have_one_object_and_no_void() -> None:
    scenes = list(CompositeScenes(side=48, each=1))
    assert len(scenes) == len(CompositeScenes(side=48, each=1)) == 16
    assert all(scene.objects_OHW.shape == (1, 48, 48) for scene in scenes)
    assert not any(scene.void_HW.any() for scene in scenes)


def test_resizing_keeps_masks_sharp() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    scene = Scene(torch.zeros(3, 4, 4, dtype=torch.uint8), mask, ~mask[0])
    larger = resized(scene, (8, 6))
    assert larger.image_3HW.shape == (3, 8, 6)
    assert larger.objects_OHW[0, :4].all()
    assert not larger.objects_OHW[0, 4:].any()
    assert torch.equal(larger.void_HW, ~larger.objects_OHW[0])
