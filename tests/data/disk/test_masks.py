"""Masks of objects: what numbers them is read, what lossy files invent is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from repro.data.disk.masks import count_scattered, read_marks
from repro.errors import UserError
from tests.data.fuzz import answer, examples


def disks(height: int = 96, width: int = 160) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    one = (x - width * 0.3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2
    two = (x - width * 0.7) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2
    return (one + 2 * two).astype(np.uint8)


def test_indexed_grey_and_binary_masks_are_numbers(tmp_path: Path) -> None:
    marks = disks()
    palette = Image.fromarray(marks).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [224] * 759)
    for image in (Image.fromarray(marks), palette):
        image.save(tmp_path / "mask.png")
        assert torch.equal(read_marks(tmp_path / "mask.png"), torch.from_numpy(marks))
    Image.fromarray(marks > 0).save(tmp_path / "mask.png")
    assert read_marks(tmp_path / "mask.png").unique().tolist() == [0, 1]


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("factor", [127, 64, 38])
def test_a_mask_that_was_a_jpeg_once_is_refused(tmp_path: Path, quality: int, factor: int) -> None:
    file = io.BytesIO()
    Image.fromarray(disks() * np.uint8(factor)).save(file, "JPEG", quality=quality)
    Image.open(file).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"mask\.png: .* lossy .*scattered"):
        read_marks(tmp_path / "mask.png")


def test_a_jpeg_is_no_mask(tmp_path: Path) -> None:
    Image.fromarray(disks()).save(tmp_path / "mask.jpg")
    with pytest.raises(UserError, match=r"mask\.jpg: .*lossy compression.*a JPEG"):
        read_marks(tmp_path / "mask.jpg")


@settings(max_examples=examples(50), deadline=None)
@given(sides=st.lists(st.integers(2, 8), min_size=1, max_size=64))
def test_areas_are_never_taken_for_scattered_pixels(sides: list[int]) -> None:
    marks = np.zeros((64, 64), np.uint8)
    for number, side in enumerate(sides):
        row, column = 8 * (number // 8), 8 * (number % 8)
        marks[row : row + side, column : column + side] = number + 1
    assert count_scattered(marks) == 0


@settings(max_examples=examples(60), deadline=None)
@given(content=st.binary(max_size=200), ending=st.sampled_from(["png", "pgm", "gif", "tif"]))
def test_any_bytes_are_a_mask_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"mask.{ending}"
    head = {"pgm": b"P5 4 ", "gif": b"GIF89a"}.get(ending, b"")
    path.write_bytes(head + content)
    marks = answer(lambda: read_marks(path))
    assert path.name in marks if isinstance(marks, str) else marks.dtype == torch.uint8
