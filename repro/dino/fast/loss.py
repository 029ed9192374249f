"""Equation 1 over all pairs of views without a copy of the outputs for each pair.

The fast path's loss (parity class B): the plain one is `losses.pairwise_cross_entropy`. Memory is
the outputs, their gradient and one block of images: with K = 65,536 the log-probabilities of all
views in fp32, and what automatic differentiation keeps of them, would be several times as much.
The gradient is known in closed form when the loss is, so both come from one walk over the blocks,
each small enough to stay in cache, and the diagnostics of Sec. 5.3 come from the same blocks.

With n_v the targets that view v has to predict (all global views but itself) and temperature tau,

    d loss / d logit_vbk = (n_v p_vbk - sum of those targets_bk) / (tau B pairs).

Shapes: G global views, V student views, B images, C images of a block, K prototypes.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from repro.dino.diagnostics import OutputSums, summarise
from repro.dino.fast.checked import why_losses_differ
from repro.dino.losses import pair_count

BLOCK = {"cpu": 2**20, "cuda": 2**24}  # numbers of a block: what a cache holds; what fills a GPU


def fused_cross_entropy(
    student_VBK: Tensor, targets_GBK: Tensor, log_targets_GBK: Tensor, temperature: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, a scalar, and the statistics of `diagnostics.output_statistics`.

    Args:
        student_VBK: logits in any floating-point type; their gradient has the same.
    """
    results = _FusedCrossEntropy.apply(student_VBK, targets_GBK, log_targets_GBK, temperature)
    loss, sums = results[0], OutputSums(*results[1:])
    return loss, summarise(sums, loss.detach())


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student_VBK: Tensor, targets_GBK: Tensor, logs_GBK: Tensor, temperature: float
    ) -> tuple[Tensor, ...]:
        walk = on_gpu if _has_kernel(student_VBK, targets_GBK) else block_by_block
        needed = ctx.needs_input_grad[0]
        ctx.gradient_VBK, loss, sums = walk(student_VBK, targets_GBK, logs_GBK, temperature, needed)
        statistics = sums.means(targets_GBK[..., 0].numel())
        ctx.mark_non_differentiable(*statistics)
        return loss, *statistics

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, None, None, None]:
        # In place: the outputs' gradient is used once, and may be the largest tensor of the step.
        gradient_VBK, ctx.gradient_VBK = ctx.gradient_VBK, None
        return gradient_VBK.mul_(gradient), None, None, None


Walk = tuple[Tensor | None, Tensor, OutputSums]  # gradient, loss, sums over views and images


def block_by_block(
    student_VBK: Tensor, targets_GBK: Tensor, logs_GBK: Tensor, temperature: float, needed: bool
) -> Walk:
    v, b, k = student_VBK.shape
    g = len(targets_GBK)
    scale = 1 / (b * pair_count(g, v))
    gradient_VBK = torch.empty_like(student_VBK) if needed else None
    predicted_V = targets_GBK.new_full((v, 1, 1), g)
    predicted_V[:g] -= 1
    loss = targets_GBK.new_zeros(())
    sums = OutputSums.zeros(targets_GBK)
    block = max(1, BLOCK[student_VBK.device.type] // (v * k))
    for start in range(0, b, block):
        rows = slice(start, min(b, start + block))
        logits_VCK = student_VBK[:, rows].to(targets_GBK.dtype) / temperature
        log_student_VCK = logits_VCK.log_softmax(dim=-1)
        targets_GCK = targets_GBK[:, rows]
        total_CK = targets_GCK.sum(dim=0)
        inner_GV = targets_GCK.flatten(1) @ log_student_VCK.flatten(1).T
        loss -= scale * (inner_GV.sum() - inner_GV.diagonal().sum())
        sums.add(targets_GCK, logs_GBK[:, rows], log_student_VCK, total_CK)
        if gradient_VBK is not None:
            # In place, in the block that is in cache.
            residual_VCK = log_student_VCK.exp_().mul_(predicted_V).sub_(total_CK)
            residual_VCK[:g] += targets_GCK
            gradient_VBK[:, rows] = residual_VCK.mul_(scale / temperature)
    return gradient_VBK, loss, sums


def _has_kernel(student_VBK: Tensor, targets_GBK: Tensor) -> bool:
    """Whether `triton_loss` can: CUDA alone has Triton, and the kernel is written for two."""
    known = student_VBK.is_cuda and len(targets_GBK) == 2 and find_spec("triton") is not None
    return known and _kernel_agrees(student_VBK.device)


@cache
def _kernel_agrees(device: torch.device) -> bool:
    """Whether it runs here and says what the walk over blocks does; warns where not."""
    if why := why_losses_differ(block_by_block, on_gpu, device):
        warnings.warn(f"the loss runs without its GPU kernel ({why})", stacklevel=2)
    return not why


def on_gpu(
    student_VBK: Tensor, targets_GBK: Tensor, logs_GBK: Tensor, temperature: float, needed: bool
) -> Walk:
    from repro.dino.fast.triton_loss import loss_and_gradient

    v, b, _ = student_VBK.shape
    gradient_VBK, sums = loss_and_gradient(student_VBK, targets_GBK, logs_GBK, temperature, needed)
    loss, entropy, kl, cross = sums.unbind()
    target_K = targets_GBK.sum(dim=(0, 1))
    loss = loss / (b * pair_count(2, v))
    return gradient_VBK, loss, OutputSums(entropy, kl, cross, target_K)
