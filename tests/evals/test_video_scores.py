"""J and F of DAVIS on hand-drawn masks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from repro.errors import UserError
from repro.evals.video_scores import (
    ObjectScore,
    benchmark,
    contour,
    contour_accuracy,
    region_similarity,
    score_video,
)

Mask = NDArray[np.bool_]


def square(top: int, left: int, side: int, size: int = 40) -> Mask:
    mask = np.zeros((size, size), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


EMPTY = np.zeros((40, 40), dtype=bool)


def test_j_is_intersection_over_union() -> None:
    assert region_similarity(square(0, 0, 10), square(0, 0, 10)) == 1
    assert region_similarity(square(0, 0, 10), square(0, 5, 10)) == pytest.approx(50 / 150)
    assert region_similarity(EMPTY, EMPTY) == 1
    assert region_similarity(EMPTY, square(0, 0, 10)) == 0
    assert region_similarity(square(0, 0, 10), square(0, 5, 10), void=square(0, 0, 5)) == (
        pytest.approx(50 / 125)
    )


def test_a_contour_is_where_the_mask_ends_to_the_right_or_below() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[1:3, 1:3] = True
    assert contour(mask).astype(int).tolist() == [
        [1, 1, 1, 0],
        [1, 0, 1, 0],
        [1, 1, 1, 0],
        [0, 0, 0, 0],
    ]
    assert not contour(np.ones((4, 4), dtype=bool)).any()


def test_f_forgives_a_pixel_and_not_three() -> None:
    # 0.8 % of the diagonal of 40 x 40 is 0.45, rounded up to one pixel.
    truth = square(10, 10, 12)
    assert contour_accuracy(truth, truth) == 1
    assert contour_accuracy(square(11, 10, 12), truth) == 1
    assert 0 < contour_accuracy(square(13, 10, 12), truth) < 1
    assert contour_accuracy(square(0, 0, 4), square(30, 30, 6)) == 0


def test_f_by_hand() -> None:
    # The upper side of the found contour lies 6 pixels too low; the rest is within a pixel.
    truth, found = square(10, 10, 12), np.zeros((40, 40), dtype=bool)
    found[16:22, 10:22] = True
    ours, theirs = contour(found), contour(truth)
    precision = sum(
        theirs[max(0, y - 1) : y + 2, x].any() or theirs[y, max(0, x - 1) : x + 2].any()
        for y, x in zip(*ours.nonzero(), strict=True)
    ) / ours.sum()  # fmt: skip
    recall = sum(
        ours[max(0, y - 1) : y + 2, x].any() or ours[y, max(0, x - 1) : x + 2].any()
        for y, x in zip(*theirs.nonzero(), strict=True)
    ) / theirs.sum()  # fmt: skip
    expected = 2 * precision * recall / (precision + recall)
    assert contour_accuracy(found, truth) == pytest.approx(expected)


@pytest.mark.parametrize(("ours", "expected"), [(EMPTY, 1.0), (square(0, 0, 9), 0.0)])
def test_f_of_an_empty_truth(ours: Mask, expected: float) -> None:
    assert contour_accuracy(ours, EMPTY) == expected
    assert contour_accuracy(EMPTY, square(0, 0, 9)) == 0


def marks(*objects: Mask) -> NDArray[np.uint8]:
    frame = np.zeros((40, 40), dtype=np.uint8)
    for number, mask in enumerate(objects, 1):
        frame[mask] = number
    return frame


def test_objects_are_scored_one_by_one_without_the_first_and_the_last_frame() -> None:
    one, two = square(0, 0, 10), square(20, 20, 10)
    truth = [marks(one, two)] * 4
    lost = marks(one)
    scores = score_video("v", [truth[0], truth[1], lost, lost], truth)
    assert [(s.number, s.j, s.f) for s in scores] == [(1, 1.0, 1.0), (2, 0.5, 0.5)]
    assert benchmark(scores) == {"jf_mean": 75.0, "j_mean": 75.0, "f_mean": 75.0}
    assert benchmark([ObjectScore("v", 1, 0.5, 1.0)]) == {
        "jf_mean": 75.0, "j_mean": 50.0, "f_mean": 100.0,
    }  # fmt: skip


def test_an_unlabelled_pixel_counts_neither_way() -> None:
    one = square(10, 10, 10)
    truth = marks(one)
    truth[25:35, 25:35] = 255
    said = marks(one)
    said[25:35, 25:35] = 1
    (score,) = score_video("v", [truth, said, said], [truth] * 3)
    assert (score.j, score.f) == (1.0, 1.0)


def test_videos_that_cannot_be_scored_are_named() -> None:
    frame = marks(square(0, 0, 9))
    with pytest.raises(UserError, match=r"video v: 1 frame\(s\); .* it takes three"):
        score_video("v", [frame], [frame])
    with pytest.raises(UserError, match="video v: the mask of its first frame is empty"):
        score_video("v", [marks()] * 3, [marks()] * 3)
