"""Pictures, upright as PIL turns them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from repro.data.disk.orientation import TAG, as_stored, orientation_of, upright
from repro.data.pictures import Pictures, levels, open_picture, open_upright, turned


def save(path: Path, image: Image.Image, held: int, kind: str = "PNG") -> Path:
    """A picture that says so of itself."""
    exif = Image.Exif()
    exif[TAG] = held
    image.save(path, kind, exif=exif)
    return path


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("held", range(1, 9))
def test_every_orientation_is_turned_as_pil_turns_it(
    tmp_path: Path, image: Image.Image, held: int
) -> None:
    path = save(tmp_path / "held.png", image, held)
    stored, looked_at = open_picture(path), open_upright(path)
    assert torch.equal(stored, levels(image))
    assert torch.equal(looked_at, levels(ImageOps.exif_transpose(Image.open(path))))
    assert torch.equal(as_stored(looked_at, held), stored)
    assert torch.equal(upright(stored[0], held), looked_at[0])
    assert orientation_of(path) == held


def test_a_tiff_is_turned_once_and_odd_tags_are_none(tmp_path: Path, image: Image.Image) -> None:
    path = save(tmp_path / "held.tif", image, 6, "TIFF")
    assert orientation_of(path) == 1  # PIL has turned it
    assert torch.equal(open_upright(path), levels(image.transpose(Image.Transpose.ROTATE_270)))
    for odd in (0, 9, 77):
        assert orientation_of(save(tmp_path / "odd.jpg", image, odd, "JPEG")) == 1
    (tmp_path / "torn.jpg").write_bytes(b"torn")
    assert orientation_of(tmp_path / "torn.jpg") == 1
    assert orientation_of(tmp_path / "nowhere.jpg") == 1


def test_only_pictures_that_say_so_are_turned(tmp_path: Path, image: Image.Image) -> None:
    files = [save(tmp_path / f"{held}.jpg", image, held, "JPEG") for held in (1, 6, 3)]
    assert turned(Pictures(files)) == {1: 6, 2: 3}
    assert turned([levels(image)]) == {}
