"""Attention of short sequences straight from the rows of a fused projection, on CUDA GPUs.

A crop has 37 tokens and a global view 197. Kernels made for thousands fill their tiles of 128 to a
quarter, and hand out queries, keys and values as separate tensors that are then put together again.
Here tiles are small, rows are read where the projection wrote them, and the three gradients are
written where its backward product reads them. No N x N weights are stored (Dao et al., 2022): they
are computed again from the logarithm of each row's sum.

Shapes: M samples, N tokens of each, T = M x N rows, A heads, W width of a head, D = A x W.
"""

# Annotations stay objects: Triton reads them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, no-any-return, untyped-decorator"
# ruff: noqa: ANN001, ANN202

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = 1.4426950408889634


@triton.jit
def _attend(
    qkv_ptr, out_ptr, logs_ptr, tokens, heads, scale,
    D: tl.constexpr, W: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    sample, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    first = sample.to(tl.int64) * tokens
    width = tl.arange(0, W)
    query = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    rows = (first + query)[:, None]
    column = head * W + width[None, :]
    q = tl.load(qkv_ptr + rows * (3 * D) + column, mask=(query < tokens)[:, None], other=0.0)
    largest = tl.full([BLOCK_Q], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_Q], dtype=tl.float32)
    attended = tl.zeros([BLOCK_Q, W], dtype=tl.float32)
    for start in range(0, tokens, BLOCK_K):
        key = start + tl.arange(0, BLOCK_K)
        inside = (key < tokens)[:, None]
        place = (first + key)[:, None] * (3 * D) + column
        k = tl.load(qkv_ptr + D + place, mask=inside, other=0.0)
        v = tl.load(qkv_ptr + 2 * D + place, mask=inside, other=0.0)
        logits = tl.dot(q, tl.trans(k)) * scale  # in powers of two
        logits = tl.where((key < tokens)[None, :], logits, float("-inf"))
        now = tl.maximum(largest, tl.max(logits, axis=1))
        weights = tl.exp2(logits - now[:, None])
        shrunk = tl.exp2(largest - now)
        total = total * shrunk + tl.sum(weights, axis=1)
        attended = attended * shrunk[:, None] + tl.dot(weights.to(v.dtype), v)
        largest = now
    attended = attended / total[:, None]
    kept = query < tokens
    tl.store(out_ptr + rows * D + column, attended.to(out_ptr.dtype.element_ty), mask=kept[:, None])
    tl.store(logs_ptr + (first + query) * heads + head, largest + tl.log2(total), mask=kept)


@triton.jit
def _gradients(
    qkv_ptr, out_ptr, dout_ptr, logs_ptr, dqkv_ptr, tokens, heads, scale, softmax_scale,
    D: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of the keys and values of one block, then of its queries."""
    sample, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    first = sample.to(tl.int64) * tokens
    column = head * W + tl.arange(0, W)[None, :]
    mine = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (mine < tokens)[:, None]
    place = (first + mine)[:, None] * (3 * D) + column
    k = tl.load(qkv_ptr + D + place, mask=inside, other=0.0)
    v = tl.load(qkv_ptr + 2 * D + place, mask=inside, other=0.0)
    dk = tl.zeros([BLOCK, W], dtype=tl.float32)
    dv = tl.zeros([BLOCK, W], dtype=tl.float32)
    for start in range(0, tokens, BLOCK):
        query = start + tl.arange(0, BLOCK)
        there = (query < tokens)[:, None]
        rows = (first + query)[:, None]
        q = tl.load(qkv_ptr + rows * (3 * D) + column, mask=there, other=0.0)
        out = tl.load(out_ptr + rows * D + column, mask=there, other=0.0).to(tl.float32)
        dout = tl.load(dout_ptr + rows * D + column, mask=there, other=0.0)
        logs = tl.load(logs_ptr + (first + query) * heads + head, mask=query < tokens, other=0.0)
        along = tl.sum(out * dout.to(tl.float32), axis=1)
        weights = tl.exp2(tl.dot(q, tl.trans(k)) * scale - logs[:, None])
        weights = tl.where(there & (mine < tokens)[None, :], weights, 0.0)
        dv += tl.dot(tl.trans(weights).to(dout.dtype), dout)
        dlogits = weights * (tl.dot(dout, tl.trans(v)) - along[:, None])
        dk += tl.dot(tl.trans(dlogits).to(q.dtype), q)
    element = dqkv_ptr.dtype.element_ty
    tl.store(dqkv_ptr + D + place, (dk * softmax_scale).to(element), mask=inside)
    tl.store(dqkv_ptr + 2 * D + place, dv.to(element), mask=inside)

    rows = (first + mine)[:, None]
    q = tl.load(qkv_ptr + place, mask=inside, other=0.0)
    out = tl.load(out_ptr + rows * D + column, mask=inside, other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + rows * D + column, mask=inside, other=0.0)
    logs = tl.load(logs_ptr + (first + mine) * heads + head, mask=mine < tokens, other=0.0)
    along = tl.sum(out * dout.to(tl.float32), axis=1)
    dq = tl.zeros([BLOCK, W], dtype=tl.float32)
    for start in range(0, tokens, BLOCK):
        key = start + tl.arange(0, BLOCK)
        there = (key < tokens)[:, None]
        other = (first + key)[:, None] * (3 * D) + column
        k = tl.load(qkv_ptr + D + other, mask=there, other=0.0)
        v = tl.load(qkv_ptr + 2 * D + other, mask=there, other=0.0)
        weights = tl.exp2(tl.dot(q, tl.trans(k)) * scale - logs[:, None])
        weights = tl.where((key < tokens)[None, :] & inside, weights, 0.0)
        dlogits = weights * (tl.dot(dout, tl.trans(v)) - along[:, None])
        dq += tl.dot(dlogits.to(k.dtype), k)
    tl.store(dqkv_ptr + place, (dq * softmax_scale).to(element), mask=inside)


@torch.no_grad()
def attend(qkv_T3D: Tensor, out_TD: Tensor, samples: int, heads: int) -> Tensor:
    """Write the attended values of contiguous rows; returns log2 of the sums, [T, A]."""
    rows, width = out_TD.shape
    tokens, head_width = rows // samples, width // heads
    logs_TA = torch.empty(rows, heads, dtype=torch.float32, device=out_TD.device)
    block = _block(tokens)
    _attend[(samples * heads, triton.cdiv(tokens, block))](
        qkv_T3D, out_TD, logs_TA, tokens, heads, head_width**-0.5 * LOG2_E,
        D=width, W=head_width, BLOCK_Q=block, BLOCK_K=block, num_warps=4, num_stages=2,
    )  # fmt: skip
    return logs_TA


@torch.no_grad()
def attend_backward(
    qkv_T3D: Tensor,
    out_TD: Tensor,
    dout_TD: Tensor,
    logs_TA: Tensor,
    dqkv_T3D: Tensor,
    samples: int,
) -> None:
    """Write the gradients of queries, keys and values into `dqkv_T3D`."""
    rows, width = out_TD.shape
    heads = logs_TA.shape[1]
    tokens, head_width = rows // samples, width // heads
    block = _block(tokens)
    scale = head_width**-0.5
    _gradients[(samples * heads, triton.cdiv(tokens, block))](
        qkv_T3D, out_TD, dout_TD, logs_TA, dqkv_T3D, tokens, heads, scale * LOG2_E, scale,
        D=width, W=head_width, BLOCK=block, num_warps=4, num_stages=2,
    )  # fmt: skip


def _block(tokens: int) -> int:
    """Rows of a tile: 16 to 64."""
    return min(64, max(16, triton.next_power_of_2(tokens)))
