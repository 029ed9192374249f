"""Composites: class, mask and box are what they say, and no pixel is shared by train and test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from repro.config.schema import PHOTOGRAPHS, DataConfig, DataKind
from repro.data import photographs
from repro.data.composites import COVER, MARGIN, _area, draw_shape, make_composites
from repro.data.datasets import open_dataset
from repro.errors import UserError
from repro.randomness import generator

SMALL = DataConfig(
    kind=DataKind.composites, name="composites16", resolution=32, tile=64, train_tiles=3,
    test_tiles=2,
)  # fmt: skip


def boxes(masks_NSS: Tensor) -> Tensor:
    """Bounding boxes of masks: top, left, bottom, right, the last two exclusive, [N, 4]."""
    found = []
    for mask_SS in masks_NSS:
        rows, columns = mask_SS.any(dim=1).nonzero(), mask_SS.any(dim=0).nonzero()
        assert len(rows), "a composite's mask is never empty"
        corners = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        found.append([int(corner) for corner in corners])
    return torch.tensor(found)


def test_the_data_set_has_sixteen_classes_at_the_size_asked_for() -> None:
    data = open_dataset(SMALL, "")
    assert data.classes == list(PHOTOGRAPHS)
    assert data.train.labels_N.tolist() == [i for i in range(16) for _ in range(3)]
    assert next(data.test.evaluation_batches(32)).shape == (32, 3, 32, 32)


def test_the_mask_holds_the_class_and_the_rest_another_photograph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each half of each photograph is painted in a colour of its own.
    def painted(name: str) -> torch.Tensor:
        picture = torch.full((3, 100, 200), PHOTOGRAPHS.index(name), dtype=torch.uint8)
        picture[..., 100:] += 100
        return picture

    monkeypatch.setattr(photographs, "load_photograph", painted)
    for part, first in (("train", 0), ("test", 100)):
        made = make_composites(48, 4, part)
        for image, mask, label in zip(
            made.images_N3SS, made.masks_NSS, made.labels_N.tolist(), strict=True
        ):
            assert set(image[0][mask].tolist()) == {first + label}
            (behind,) = set(image[0][~mask].tolist())
            assert behind != first + label
            assert first <= behind < first + 16


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.sampled_from([48, 64, 128]))
def test_a_shape_lies_inside_the_image_and_covers_what_it_may(seed: int, side: int) -> None:
    mask = draw_shape(side, generator(seed, "shape"))
    (top, left, bottom, right) = boxes(mask[None])[0].tolist()
    edge = int(side * MARGIN) - 1
    assert min(top, left) >= edge
    assert max(bottom - 1, right - 1) < side - edge
    # A long shape that would not fit is made smaller; outlines are drawn a pixel wide.
    assert COVER[0] / 3 <= float(mask.float().mean()) <= COVER[1] * 1.2


def test_boxes_are_those_of_the_masks() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 2:5, 1:7] = True
    masks[1, 7, 0] = True
    assert boxes(masks).tolist() == [[2, 1, 5, 7], [7, 0, 8, 1]]


def test_composites_are_the_same_every_time() -> None:
    first, again = make_composites(32, 2, "test"), make_composites(32, 2, "test")
    assert torch.equal(first.images_N3SS, again.images_N3SS)
    assert torch.equal(first.masks_NSS, again.masks_NSS)


def test_the_area_of_an_outline_is_that_of_its_polygon() -> None:
    square: NDArray[np.float64] = np.array([[0.0, 0], [0, 2], [3, 2], [3, 0]])
    assert _area(square) == 6


def test_composites_larger_than_half_a_photograph_are_refused() -> None:
    with pytest.raises(UserError, match="tile=400 is larger than half a photograph"):
        make_composites(400, 1, "train")
