"""Throughput is measured by real forwards in evaluation mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
