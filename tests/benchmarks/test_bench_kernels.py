"""Fast paths against plain ones: the ratio is stored as `extra_info["speedup"]`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.nn.functional import normalize

from repro.config import ClipKind
from repro.dino.losses import log_student, pairwise_cross_entropy
from repro.dino.optimiser import clip_gradients
from repro.dino.teachers import move_towards
from repro.evals.knn import knn_accuracy


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def compare(
    benchmark: BenchmarkFixture, fast: Callable[[], object], plain: Callable[[], object]
) -> None:
    """Benchmark `fast`, and store how many times faster it is than `plain` (interleaved)."""
    benchmark.pedantic(fast, rounds=5, warmup_rounds=1)
    times: dict[str, list[float]] = {"fast": [], "plain": []}
    for _ in range(5):
        for name, call in (("fast", fast), ("plain", plain)):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    benchmark.extra_info["speedup"] = min(times["plain"]) / min(times["fast"])


@pytest.mark.parametrize("prototypes", [4096, 65536])
def test_loss_forward_and_backward(benchmark: BenchmarkFixture, prototypes: int) -> None:
    targets = torch.randn(2, 8, prototypes).softmax(-1)
    logits = torch.randn(10, 8, prototypes, requires_grad=True)

    def fast() -> Tensor:
        loss = pairwise_cross_entropy(targets, log_student(logits, 0.1))
        loss.backward()
        return loss.detach()

    def plain() -> Tensor:
        terms = [
            -(targets[g] * (logits[v] / 0.1).log_softmax(-1)).sum(-1).mean()
            for g in range(2)
            for v in range(10)
            if g != v
        ]
        loss = torch.stack(terms).mean()
        loss.backward()
        return loss.detach()

    torch.testing.assert_close(fast(), plain(), rtol=1e-5, atol=1e-5)
    compare(benchmark, fast, plain)


def vit_like() -> nn.Module:
    return nn.ModuleList([nn.Linear(384, 384) for _ in range(48)])


def test_teacher_update(benchmark: BenchmarkFixture) -> None:
    student, teacher = vit_like(), vit_like()

    def plain() -> None:
        with torch.no_grad():
            for t, s in zip(teacher.parameters(), student.parameters(), strict=True):
                t.data.mul_(0.996).add_((1 - 0.996) * s.data)

    compare(benchmark, lambda: move_towards(teacher, student, 0.996), plain)


def test_per_tensor_clipping(benchmark: BenchmarkFixture) -> None:
    module = vit_like()
    other = copy.deepcopy(module)
    for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
        ours.grad = torch.randn_like(ours)
        theirs.grad = ours.grad.clone()

    def plain() -> None:
        for parameter in other.parameters():
            assert parameter.grad is not None
            factor = 3.0 / (parameter.grad.norm(2).item() + 1e-6)
            if factor < 1:
                parameter.grad.mul_(factor)

    compare(benchmark, lambda: clip_gradients(module, ClipKind.per_tensor, 3.0), plain)


def test_weighted_knn(benchmark: BenchmarkFixture) -> None:
    train, test = torch.randn(8192, 384), torch.randn(1024, 384)
    labels, truth = torch.arange(8192) % 100, torch.arange(1024) % 100

    def plain() -> list[float]:
        """Similarities anew for each k, as the authors' script computes them."""
        accuracies = []
        for k in (10, 20, 100, 200):
            similarity = normalize(test) @ normalize(train).T
            top, index = similarity.topk(k)
            votes = torch.zeros(1024, 100).scatter_add_(1, labels[index], (top / 0.07).exp())
            accuracies.append(100 * float((votes.argmax(1) == truth).float().mean()))
        return accuracies

    assert knn_accuracy(train, labels, test, truth, 20) == pytest.approx(plain()[1])
    compare(benchmark, lambda: knn_accuracy(train, labels, test, truth, 20), plain)
