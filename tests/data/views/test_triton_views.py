"""Views in two kernels against those of many operations, from the same draws.

Without a GPU they run in Triton's interpreter (tests/conftest.py).
"""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch

from repro.config.schema import ViewsConfig
from repro.data.views import batched
from repro.randomness import generator

triton_views = pytest.importorskip("repro.data.views.triton_views", exc_type=ImportError)

SMALL = ViewsConfig(global_size=16, local_size=8, local_number=2, blur_sigma=(0.1, 0.7))
ODD = {"global_size": 13, "local_size": 7}
EVERYTHING = {"jitter": 1.0, "grey": 0.5, "blur": (0.6, 1.0, 0.5), "solarise": 0.6}
NOTHING = {"jitter": 0.0, "grey": 0.0, "blur": (0.0, 0.0, 0.0), "solarise": 0.0, "flip": 0.0}
pytestmark = pytest.mark.slow  # an interpreter of Triton
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def photographs(count: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (fine.clamp(0, 1) * 255).to(DEVICE, torch.uint8)


@pytest.mark.parametrize(
    ("count", "sides", "changes"),
    [
        (4, (16, 16), {}),
        (3, (20, 14), EVERYTHING),
        (1, (16, 16), ODD | EVERYTHING),
        (2, (16, 24), NOTHING),
        (2, (16, 16), {"local_number": 0}),
    ],
)
def test_two_kernels_make_the_views_that_many_operations_make(count, sides, changes) -> None:  # noqa: ANN001
    config = replace(SMALL, **changes)
    images = photographs(count, *sides)
    made = []
    for fuses in (True, False):
        with mock.patch.object(batched, "_fuses", return_value=fuses):
            made.append(batched.make_views(images, config, generator(0, "views", 0)))
    for ours, theirs in zip(*made, strict=True):
        # Solarising jumps where a level is within rounding of the threshold.
        assert ours.shape == theirs.shape
        assert float(((ours - theirs).abs() > 1e-4).float().mean()) < 2e-3


@pytest.mark.skipif(DEVICE.type == "cuda", reason="needs no GPU")
def test_kernels_are_used_on_gpus_for_small_views_alone() -> None:
    with mock.patch.object(batched, "why_not_fused", return_value=""):
        fuses, card = batched._fuses.__wrapped__, torch.device("cuda", 0)
        assert fuses(card, (64, 32), 1.0)
        assert not fuses(card, (batched.LARGEST_FUSED + 1, 32), 1.0)
        assert not fuses(torch.device("cpu"), (64, 32), 1.0)


def test_kernels_are_believed_where_they_make_the_views_that_torch_makes() -> None:
    assert batched.why_not_fused(DEVICE, 8, 0.5) == ""
    with mock.patch.object(triton_views, "render", return_value=torch.zeros((), device=DEVICE)):
        assert "of its pixels are others" in batched.why_not_fused(DEVICE, 8, 0.5)
    broken = RuntimeError("Failed to find C compiler.\nPlease specify one")
    with mock.patch.object(triton_views, "render", side_effect=broken):
        reason = batched.why_not_fused(DEVICE, 8, 0.5)
        assert reason == "RuntimeError: Failed to find C compiler."
    with (
        mock.patch.object(batched, "why_not_fused", side_effect=["", reason]),
        pytest.warns(UserWarning, match="views of 8 pixels are made by torch: RuntimeError"),
    ):
        assert not batched._fuses.__wrapped__(torch.device("cuda", 0), (16, 8), 0.5)
