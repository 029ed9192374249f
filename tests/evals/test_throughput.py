"""Throughput is measured by real forwards in evaluation mode."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from repro.config.schema import CodePath, ModelConfig
from repro.dino.backbones import build_backbone
from repro.dino.fast.kernels import Kernels
from repro.evals import throughput
from repro.evals.throughput import images_per_second


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shapes.append(tuple(images.shape))
        self.modes.append(self.training)
        return torch.linalg.matrix_norm(images[:, 0])


def test_full_batches_are_timed_after_a_warm_up_and_the_mode_is_restored(monkeypatch) -> None:  # noqa: ANN001
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    network = Counting()
    assert images_per_second(network, 16, torch.device("cpu")) > 0
    assert network.shapes == [(128, 3, 16, 16)] * (1 + throughput.FORWARDS)
    assert network.modes == [False] * len(network.modes)
    assert network.training


@pytest.mark.parametrize("fast", [False, True])
def test_every_token_goes_through_every_block_on_either_path(
    monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    """The fast path computes less of the last block; a throughput that did would flatter ViTs."""
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    model = ModelConfig(dim=32, depth=2, heads=2, patch_size=8, drop_path=0.0)
    kernels = Kernels(CodePath.fast if fast else CodePath.reference)
    backbone = build_backbone(model, 16, kernels=kernels).eval()
    rows: list[int] = []
    for block in cast(Any, backbone).blocks:
        block.mlp.register_forward_hook(lambda _m, x, _y: rows.append(x[0].shape[-2]))
    images_per_second(backbone, 16, torch.device("cpu"))
    assert rows == [5] * 2 * (1 + throughput.FORWARDS)  # four patches and [CLS]
    assert cast(Any, backbone).kernels == kernels
    assert cast(Any, backbone).blocks[0].attn.fused_attn is fast
