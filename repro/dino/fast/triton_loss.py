"""Equation 1, its gradient and the diagnostics in two passes over the logits, on CUDA GPUs.

What `loss.fused_cross_entropy` does block by block, with a kernel for each operation, moves several
gigabytes at K = 65,536. Here one kernel reads the student's logits for the logarithm of each row's
sum, another reads logits and targets and writes the gradient (parity class B).

Shapes: G = 2 global views, V student views, B images, K prototypes, C chunks of prototypes.
"""

# Annotations stay objects: Triton reads them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, no-any-return, untyped-decorator"
# ruff: noqa: ANN001, ANN202

import torch
import triton
import triton.language as tl
from torch import Tensor

ROW = 4096  # prototypes at a time, of one row
CHUNK = 1024  # prototypes of one image, all its views one after the other
SUMS = 4  # loss, entropy, KL and cross-entropy of the global pairs


@triton.jit
def _log_sums(logits_ptr, logs_ptr, inverse, K: tl.constexpr, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * K
    column = tl.arange(0, BLOCK)
    largest = tl.full([BLOCK], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, K, BLOCK):
        here = start + column < K
        x = tl.load(logits_ptr + first + start + column, mask=here, other=float("-inf"))
        x = x.to(tl.float32) * inverse
        now = tl.maximum(largest, x)
        # A lane that has seen nothing yet must not ask for inf - inf.
        total = total * tl.exp(tl.where(largest == now, 0.0, largest - now))
        total += tl.where(here, tl.exp(tl.where(here, x - now, 0.0)), 0.0)
        largest = now
    most = tl.max(largest, axis=0)
    total = tl.sum(tl.where(total > 0, total * tl.exp(largest - most), 0.0), axis=0)
    tl.store(logs_ptr + tl.program_id(0), most + tl.log(total))


@triton.jit
def _gradients(
    logits_ptr, targets_ptr, log_targets_ptr, logs_ptr, gradient_ptr, sums_ptr,
    images, inverse, scale, V: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
    NEEDED: tl.constexpr,
):  # fmt: skip
    image, chunk = tl.program_id(0), tl.program_id(1)
    column = chunk * BLOCK + tl.arange(0, BLOCK)
    here = column < K
    one = image.to(tl.int64) * K + column
    view = images.to(tl.int64) * K
    t0 = tl.load(targets_ptr + one, mask=here, other=0.0)
    t1 = tl.load(targets_ptr + view + one, mask=here, other=0.0)
    log0 = tl.load(log_targets_ptr + one, mask=here, other=0.0)
    log1 = tl.load(log_targets_ptr + view + one, mask=here, other=0.0)
    loss = tl.zeros([BLOCK], dtype=tl.float32)
    kl = tl.zeros([BLOCK], dtype=tl.float32)
    cross = tl.zeros([BLOCK], dtype=tl.float32)
    for v in tl.static_range(V):
        x = tl.load(logits_ptr + v * view + one, mask=here, other=0.0).to(tl.float32) * inverse
        log_p = x - tl.load(logs_ptr + v * images + image)
        target = t0 + t1
        count = 2.0
        if v == 0:
            target = t1
            count = 1.0
            kl += t1 * (log1 - log_p)
            cross -= t1 * log_p
        if v == 1:
            target = t0
            count = 1.0
            kl += t0 * (log0 - log_p)
            cross -= t0 * log_p
        loss -= tl.where(here, target * log_p, 0.0)
        if NEEDED:
            gradient = (count * tl.exp(log_p) - target) * (scale * inverse)
            tl.store(
                gradient_ptr + v * view + one,
                gradient.to(gradient_ptr.dtype.element_ty),
                mask=here,
            )
    place = sums_ptr + (image * tl.num_programs(1) + chunk) * 4
    tl.store(place, tl.sum(loss, axis=0))
    tl.store(place + 1, tl.sum(-(t0 * log0 + t1 * log1), axis=0))
    tl.store(place + 2, tl.sum(tl.where(here, kl, 0.0), axis=0))
    tl.store(place + 3, tl.sum(tl.where(here, cross, 0.0), axis=0))


@torch.no_grad()
def loss_and_gradient(
    student_VBK: Tensor,
    targets_GBK: Tensor,
    log_targets_GBK: Tensor,
    temperature: float,
    needed: bool,
) -> tuple[Tensor | None, Tensor]:
    """The gradient of the mean over images and pairs, and four sums over images and pairs: of the
    loss, the targets' entropy, the global pairs' KL and cross-entropy.

    Args:
        needed: whether the gradient is.
    """
    v, b, k = student_VBK.shape
    assert len(targets_GBK) == 2, f"{len(targets_GBK)} global views"
    student_VBK, targets_GBK = student_VBK.contiguous(), targets_GBK.contiguous()
    log_targets_GBK = log_targets_GBK.contiguous()
    logs_VB = torch.empty(v, b, dtype=torch.float32, device=student_VBK.device)
    _log_sums[(v * b,)](student_VBK, logs_VB, 1 / temperature, K=k, BLOCK=ROW, num_warps=8)
    gradient_VBK = torch.empty_like(student_VBK) if needed else None
    chunks = triton.cdiv(k, CHUNK)
    sums = torch.empty(b * chunks, SUMS, dtype=torch.float32, device=student_VBK.device)
    _gradients[(b, chunks)](
        student_VBK, targets_GBK, log_targets_GBK, logs_VB, gradient_VBK, sums,
        b, 1 / temperature, 1 / (b * 2 * (v - 1)),
        V=v, K=k, BLOCK=CHUNK, NEEDED=needed, num_warps=4,
    )  # fmt: skip
    return gradient_VBK, sums.sum(dim=0)
