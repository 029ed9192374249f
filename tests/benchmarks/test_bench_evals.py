"""Evaluation against its bare forward passes and matrix products."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.nn.functional import normalize

from repro.config.schema import CodePath
from repro.data.in_memory import MemorySplit
from repro.data.views.kinds import normalise
from repro.dino.backbones import build_backbone
from repro.dino.fast.choice import choose_kernels
from repro.evals.features.files import BATCH, frozen_features
from repro.evals.features.layers import Layers, extract_features
from repro.evals.features.neighbours import BLOCK, CHUNK, nearest
from repro.evals.knn import knn_accuracy
from repro.evals.throughput import peak_memory
from tests.benchmarks.measure import DEVICE, FULL, Against, compare, config_of, use_threads

GPU = DEVICE.type == "cuda"
DATABASE, QUERIES = (1_281_167, 10_000 if GPU else 1_024) if FULL else (3_000, 100)
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


def test_features_into_a_file(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    use_threads()
    config = config_of("laptop", {"model.dim": 32, "model.depth": 2}, {})
    kernels = choose_kernels(config, DEVICE)
    side, images = config.data.resolution, 16 * BATCH
    backbone = build_backbone(config.model, side, kernels=kernels).to(DEVICE).eval()
    levels = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8, device=DEVICE)
    split = MemorySplit(levels, torch.zeros(images, dtype=torch.long))
    ready = normalise(levels[:BATCH].float() / 255)

    @torch.no_grad()
    def forward() -> None:
        for _ in range(16):
            backbone(ready)

    def ours() -> None:
        frozen_features(backbone, split, Layers(), DEVICE, tmp_path)
        for path in tmp_path.glob("*.npy"):
            path.unlink()

    seconds = compare(
        benchmark, f"features into a file, {images:,} images", ours,
        limit=Against("bare forward passes", forward),
    )  # fmt: skip
    benchmark.extra_info["images_per_second"] = images / seconds["ours"]


def test_knn_at_imagenet_s_size(benchmark: BenchmarkFixture) -> None:
    """All 1.28 million images; of the 50,000 queries a part, which cost alike."""
    use_threads()
    database = torch.randn(DATABASE, WIDTH, device=DEVICE)
    queries = torch.randn(QUERIES, WIDTH, device=DEVICE)
    kernels = choose_kernels(config_of("laptop", {}, {}), DEVICE)

    def products() -> None:
        for first in range(0, DATABASE, BLOCK):
            for start in range(0, QUERIES, CHUNK):
                rows = queries[start : start + CHUNK]
                kernels.linear(rows, database[first : first + BLOCK], None)

    before = peak_memory(DEVICE)
    compare(
        benchmark, f"the 200 nearest of {DATABASE:,} for {QUERIES:,} images",
        lambda: nearest(queries, database, 200, kernels),
        limit=Against("the matrix products", products), rounds=2,
        operations=2 * DATABASE * QUERIES * WIDTH, bytes=4 * (DATABASE + QUERIES) * WIDTH,
    )  # fmt: skip
    benchmark.extra_info["gigabytes_beside_features"] = (peak_memory(DEVICE) - before) / 1e9


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
