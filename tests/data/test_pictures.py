"""Pictures of every kind that PIL reads become levels; what it cannot read is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from repro.data.pictures import open_picture, pictures_in
from repro.errors import UserError


@pytest.fixture
def levels() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1"])
def test_every_mode_becomes_red_green_and_blue(
    tmp_path: Path, levels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], mode: str
) -> None:
    image = Image.fromarray(levels).convert(mode)
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    image.save(path)
    picture = open_picture(path)
    assert picture.shape == (3, 9, 13)
    expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(picture, expected)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert open_picture(tmp_path / "deep.png")[0].tolist() == [[0, 1, 128, 255]]


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (7, 8, 9)).save(tmp_path / "one.png")
    assert open_picture(tmp_path / "one.png").flatten().tolist() == [7, 8, 9]


def test_a_torn_jpeg_is_refused_and_named(
    tmp_path: Path, levels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    path = tmp_path / "torn.jpg"
    Image.fromarray(levels.repeat(20, 0).repeat(20, 1)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"torn\.jpg: unreadable picture"):
        open_picture(path)


def test_what_is_missing_or_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("words")
    for path, words in ((tmp_path / "no.png", "no such picture"), (tmp_path / "words.txt", "unr")):
        with pytest.raises(UserError, match=words):
            open_picture(path)
    with pytest.raises(UserError, match="no picture in it"):
        pictures_in(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        pictures_in(tmp_path / "nowhere")
