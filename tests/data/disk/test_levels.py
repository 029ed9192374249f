"""Deep and floating pictures become levels by their own range."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from numpy.typing import NDArray
from PIL import Image

from repro.data.disk.levels import in_8_bits, to_rgb

RAMP = np.tile(np.linspace(0, 255, 64).round(), (4, 1))  # every level four times


def read(values: NDArray[Any], kind: str) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return np.asarray(to_rgb(Image.open(file)))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (RAMP.astype(np.uint8), "PNG"),
        ((RAMP * 257).astype(np.uint16), "PNG"),
        ((RAMP * 4095 / 255).round().astype(np.uint16), "PNG"),  # 12 bits, as from a microscope
        ((RAMP * 1023 / 255).round().astype(np.uint16), "TIFF"),
        (RAMP.astype(np.uint16), "PNG"),  # 8 bits in 16
        (RAMP.astype(np.int32), "TIFF"),
        ((RAMP * 257).astype(np.int32), "TIFF"),
        ((RAMP * 2**23 / 255).astype(np.int32), "TIFF"),
        ((RAMP - 128).astype(np.int32), "TIFF"),
        ((RAMP / 255).astype(np.float32), "TIFF"),
        (RAMP.astype(np.float32), "TIFF"),
        ((RAMP / 127.5 - 1).astype(np.float32), "TIFF"),
        ((RAMP * 1e6 - 7).astype(np.float32), "TIFF"),
    ],
)
def test_a_ramp_in_any_depth_is_the_ramp(values: NDArray[Any], kind: str) -> None:
    got = read(values, kind).astype(int)
    assert got.shape == (4, 64, 3)
    assert np.abs(got - RAMP[..., None]).max() <= 1
    assert len(np.unique(got)) == 64


def test_what_is_no_number_is_black_and_infinities_are_the_ends() -> None:
    values = np.array([[np.nan, 0.5, np.inf, -np.inf]], dtype=np.float32)
    assert in_8_bits(values).tolist() == [[0, 128, 255, 0]]
    assert in_8_bits(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]


DEEP = st.one_of(
    nst.arrays(np.float32, (3, 3)),
    nst.arrays(np.int32, (3, 3)),
    nst.arrays(np.uint16, (3, 3)),
)


@given(values=DEEP)
def test_levels_keep_the_order_of_any_values(values: NDArray[Any]) -> None:
    levels = in_8_bits(values)
    assert levels.dtype == np.uint8
    there = ~np.isnan(values)
    order = np.argsort(values[there], kind="stable")
    assert (np.diff(levels[there][order].astype(int)) >= 0).all()
