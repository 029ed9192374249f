"""Parts of a step against plain ones, and against memory bandwidth or bare products."""

from __future__ import annotations

import copy

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.nn.functional import linear

from repro.config.schema import ClipKind
from repro.dino.diagnostics import output_statistics
from repro.dino.fast import choice, kernels
from repro.dino.fast.loss import fused_cross_entropy
from repro.dino.losses import log_student, pairwise_cross_entropy
from repro.dino.optimiser import clip_gradients
from repro.dino.teachers import move_towards
from tests.benchmarks.measure import (
    DEVICE,
    FULL,
    Against,
    bandwidth,
    compare,
    matrix_rate,
    use_threads,
)

GPU = DEVICE.type == "cuda"
BATCH = 64 if GPU else 8
FP32 = 4  # bytes
BLOCKS = 12 if FULL else 2


def test_the_machine(benchmark: BenchmarkFixture) -> None:
    """The ceilings of the roofline."""
    use_threads()
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {name: matrix_rate(dtype) for name, dtype in types.items()}
    benchmark.extra_info.update(rates=rates, bandwidth=bandwidth())
    benchmark.pedantic(lambda: None, rounds=1)


@pytest.mark.parametrize("prototypes", [4096, 65536])
def test_loss_with_statistics(benchmark: BenchmarkFixture, prototypes: int) -> None:
    use_threads()
    log_targets = torch.randn(2, BATCH, prototypes, device=DEVICE).log_softmax(-1)
    targets = log_targets.exp()
    logits = torch.randn(10, BATCH, prototypes, device=DEVICE, requires_grad=True)

    def fused() -> Tensor:
        logits.grad = None
        loss, _ = fused_cross_entropy(logits, targets, log_targets, 0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def plain() -> Tensor:
        logits.grad = None
        logs = log_student(logits, 0.1)
        loss = pairwise_cross_entropy(targets, logs)
        output_statistics(targets, log_targets, logs.detach())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    torch.testing.assert_close(fused(), plain(), rtol=1e-5, atol=1e-5)
    touched = FP32 * (2 * logits.numel() + 2 * targets.numel())  # logits, gradient, targets, logs
    seconds = touched / bandwidth()
    compare(
        benchmark, f"loss and statistics, K = {prototypes:,}", fused,
        baseline=Against("pair by pair", plain), bytes=touched, bandwidth_seconds=seconds,
    )  # fmt: skip


def vit_s_like() -> nn.Module:
    """As many weights as ViT-S, in as many tensors."""
    wide = [(384, 1152), (384, 384), (384, 1536), (1536, 384)]
    return nn.ModuleList([nn.Linear(a, b) for a, b in wide * BLOCKS]).to(DEVICE)


def test_teacher_update(benchmark: BenchmarkFixture) -> None:
    use_threads()
    student, teacher = vit_s_like(), vit_s_like()
    pairs = list(zip(teacher.parameters(), student.parameters(), strict=True))

    def plain() -> None:
        with torch.no_grad():
            for t, s in pairs:
                t.data.mul_(0.996).add_((1 - 0.996) * s.data)

    touched = 3 * FP32 * sum(p.numel() for p in student.parameters())
    compare(
        benchmark, "teacher update, ViT-S", lambda: move_towards(teacher, student, 0.996),
        baseline=Against("tensor by tensor", plain),
        bytes=touched, bandwidth_seconds=touched / bandwidth(),
    )  # fmt: skip


def test_per_tensor_clipping(benchmark: BenchmarkFixture) -> None:
    use_threads()
    module = vit_s_like()
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

    touched = 3 * FP32 * sum(p.numel() for p in module.parameters())
    compare(
        benchmark, "clipping each tensor, ViT-S",
        lambda: clip_gradients(module, ClipKind.per_tensor, 3.0),
        baseline=Against("tensor by tensor, each norm read back", plain),
        bytes=touched, bandwidth_seconds=touched / bandwidth(),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tokens", [37, 197])
def test_attention_as_chosen_here(benchmark: BenchmarkFixture, tokens: int, dtype: str) -> None:
    use_threads()
    precision = getattr(torch, dtype)
    name = choice.faster_attention(DEVICE.type, precision, tokens, 6, 384)
    shape = (3, 16 if FULL else 2, 6, tokens, 64)
    qkv = torch.randn(shape, device=DEVICE, dtype=precision, requires_grad=True)

    def run(kernel: kernels.Attention) -> None:
        kernel(*qkv.unbind()).sum().backward()  # type: ignore[no-untyped-call]

    compare(
        benchmark, f"attention, {tokens} tokens, {dtype}: {name} chosen",
        lambda: run(kernels.ATTENTION[name]),
        baseline=Against("torch's fused kernel", lambda: run(kernels.fused_attention)),
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_linear_layer_as_chosen_here(benchmark: BenchmarkFixture, precision: str) -> None:
    use_threads()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    kernel = kernels.LINEAR[choice.faster_linear(dtype, 384) if not GPU else "torch"]

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, device=DEVICE).to(dtype).requires_grad_()

    x, weight, bias = leaf(2048 if FULL else 64, 384), leaf(1536, 384), leaf(1536)
    gradient = torch.randn(len(x), 1536, device=DEVICE).to(dtype)

    def run(function: kernels.Linear) -> None:
        torch.autograd.grad(function(x, weight, bias), (x, weight, bias), gradient)

    compare(
        benchmark, f"linear layer, {precision}, forward and backward", lambda: run(kernel),
        baseline=Against("torch's own", lambda: run(linear)),
        operations=3 * 2 * x.shape[0] * 384 * 1536,
        bytes=x.element_size() * 3 * (x.numel() + weight.numel() + gradient.numel()),
    )  # fmt: skip
