"""Evaluation against its bare forward passes and matrix products."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.nn.functional import normalize

from repro.config import CodePath
from repro.data.photographs import MemorySplit
from repro.dino.backbones import build_backbone
from repro.dino.kernels import choose_kernels
from repro.dino.views import normalise
from repro.evals.features import extract_features
from repro.evals.knn import knn_accuracy
from tests.benchmarks.measure import DEVICE, FULL, Against, compare, config_of, use_threads

TRAIN, TEST, WIDTH, CLASSES = (50_000, 2_000, 384, 1000) if FULL else (500, 100, 32, 10)


def test_features(benchmark: BenchmarkFixture) -> None:
    use_threads()
    config = config_of("laptop", {"model.dim": 32, "model.depth": 2}, {})
    kernels = choose_kernels(config, DEVICE)
    backbone = (
        build_backbone(config.model, config.data.resolution, kernels=kernels).to(DEVICE).eval()
    )
    config.resources.path = CodePath.reference
    plain = build_backbone(config.model, config.data.resolution).to(DEVICE).eval()
    size, side = config.eval.batch_size, config.data.resolution
    images = torch.randint(0, 256, (4 * size, 3, side, side), dtype=torch.uint8, device=DEVICE)
    split = MemorySplit(images, torch.zeros(len(images), dtype=torch.long))
    ready = normalise(images[:size].float() / 255)

    @torch.no_grad()
    def forward() -> None:
        for _ in range(4):
            backbone(ready)

    seconds = compare(
        benchmark, "features, laptop backbone",
        lambda: extract_features(backbone, split, size, DEVICE),
        baseline=Against("timm's ViT", lambda: extract_features(plain, split, size, DEVICE)),
        limit=Against("bare forward passes", forward),
    )  # fmt: skip
    benchmark.extra_info["images_per_second"] = len(images) / seconds["ours"]


def test_weighted_knn(benchmark: BenchmarkFixture) -> None:
    use_threads()
    train = torch.randn(TRAIN, WIDTH, device=DEVICE)
    test = torch.randn(TEST, WIDTH, device=DEVICE)
    labels, truth = torch.arange(TRAIN) % CLASSES, torch.arange(TEST) % CLASSES
    there = labels.to(DEVICE)
    kernels = choose_kernels(config_of("laptop", {}, {}), DEVICE)

    def plain() -> float:
        """Similarities anew for each k, as the authors' script computes them."""
        accuracies = []
        for k in (10, 20, 100, 200):
            top, index = (normalize(test) @ normalize(train).T).topk(k)
            votes = torch.zeros(TEST, CLASSES, device=DEVICE)
            votes.scatter_add_(1, there[index], (top / 0.07).exp())
            accuracies.append(100 * float((votes.argmax(1).cpu() == truth).float().mean()))
        return accuracies[1]

    def ours() -> float:
        return knn_accuracy(train, labels, test, truth, 20, kernels=kernels)

    assert ours() == pytest.approx(plain(), abs=100 / TEST)
    compare(
        benchmark, f"k-NN, {TEST:,} images against {TRAIN:,}", ours,
        baseline=Against("similarities anew for each of four k", plain),
        limit=Against("the matrix product", lambda: kernels.linear(test, train, None)),
        rounds=3, operations=2 * TRAIN * TEST * WIDTH, bytes=4 * (TRAIN + TEST) * WIDTH,
    )  # fmt: skip
