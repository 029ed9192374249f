"""Videos from a folder laid out as DAVIS 2017."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data.videos import open_davis
from repro.errors import UserError


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "DAVIS"
    for folder in ("ImageSets/2017", "JPEGImages/480p/bear", "Annotations/480p/bear"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("bear\n")
    for time in range(3):
        Image.new("RGB", (6, 4), (50 * time, 0, 0)).save(
            root / f"JPEGImages/480p/bear/{time:05}.jpg"
        )
        marks = np.zeros((4, 6), dtype=np.uint8)
        marks[:, time] = 1
        Image.fromarray(marks).save(root / f"Annotations/480p/bear/{time:05}.png")
    return tmp_path


@pytest.mark.parametrize("inside", ["", "DAVIS"])
def test_frames_and_masks_are_read_from_the_benchmark_s_own_layout(
    davis: Path, inside: str
) -> None:
    videos = open_davis(davis / inside)
    (video,) = videos
    assert len(videos) == 1
    assert video.name == "bear"
    assert [int(frame[0, 0, 0]) for frame in video.frames] == pytest.approx([0, 50, 100], abs=3)
    assert [int(marks.float().argmax()) for marks in video.marks] == [0, 1, 2]


def test_what_is_missing_is_named(davis: Path, tmp_path: Path) -> None:
    (davis / "DAVIS/Annotations/480p/bear/00002.png").unlink()
    with pytest.raises(UserError, match=r"00002\.png: no such mask"):
        list(open_davis(davis))
    (davis / "DAVIS/ImageSets/2017/val.txt").write_text("wolf\n")
    with pytest.raises(UserError, match="wolf: no such folder"):
        list(open_davis(davis))
    (davis / "DAVIS/ImageSets/2017/val.txt").write_text("")
    with pytest.raises(UserError, match="names no video"):
        open_davis(davis)
    with pytest.raises(UserError, match=r"no ImageSets/2017/val\.txt there"):
        open_davis(tmp_path / "elsewhere")
