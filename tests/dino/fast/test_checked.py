"""Kernels compiled where they run are held to plain torch before they are believed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from repro.dino.fast.checked import relative_distance, why_losses_differ, why_not_fused

pytest.importorskip("triton")
from repro.dino.fast import fused_blocks
from repro.dino.fast.loss import block_by_block, on_gpu

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ATTENTION = {17: "rows", 5: "rows"}


@pytest.fixture(autouse=True)
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE.type == "cpu":  # Triton's interpreter knows no products of bfloat16
        monkeypatch.setattr(fused_blocks, "HALF", torch.float16)


def why() -> str:
    return why_not_fused(32, 2, ATTENTION, DEVICE)


def test_fused_blocks_that_agree_are_believed() -> None:
    assert why() == ""


def test_fused_blocks_with_one_wrong_gradient_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fused_blocks.product_of_rows
    monkeypatch.setattr(fused_blocks, "product_of_rows", lambda a, b: 1.2 * right(a, b))
    assert "from those of plain blocks" in why()


def test_fused_blocks_that_do_not_compile_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(fused_blocks, "bias_gelu", broken)
    assert why() == "RuntimeError: no compiler"


def test_what_is_not_finite_is_infinitely_far() -> None:
    assert relative_distance(torch.ones(2), torch.tensor([1.0, torch.nan])) == float("inf")
    assert relative_distance(torch.ones(2), torch.ones(2)) == 0


def test_the_losss_kernel_is_believed_where_it_agrees() -> None:
    assert why_losses_differ(block_by_block, on_gpu, DEVICE) == ""

    def off(*given: Any) -> tuple[Tensor | None, Tensor, Any]:
        gradient, loss, sums = block_by_block(*given)
        return gradient, 1.001 * loss, sums

    assert "from those of the plain one" in why_losses_differ(block_by_block, off, DEVICE)
