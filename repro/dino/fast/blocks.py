"""All views through a block together; the last one for [CLS] alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from repro.dino.fast.kernels import Kernels

Layout = list[tuple[int, int]]  # (samples, tokens of each) of every resolution, in order of rows


def run_block(
    x_TD: Tensor,
    block: Any,
    kept: tuple[Tensor, Tensor] | None,
    rate: float,
    layout: Layout,
    kernels: Kernels,
) -> Tensor:
    """A pre-norm block on the tokens of all samples, [T, D]."""
    qkv_TD = kernels.linear(block.norm1(x_TD), block.attn.qkv.weight, block.attn.qkv.bias)
    heads, outputs = block.attn.num_heads, []
    for (m, n), rows in zip(layout, _by_resolution(qkv_TD, layout), strict=True):
        qkv = rows.view(m, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
        outputs.append(_rows(kernels.attention(*qkv.unbind())))
    return _rest_of_block(x_TD, torch.cat(outputs), block, kept, rate, kernels)


def run_last_block(
    x_TD: Tensor,
    block: Any,
    kept: tuple[Tensor, Tensor] | None,
    rate: float,
    layout: Layout,
    kernels: Kernels,
) -> Tensor:
    """The same for the [CLS] tokens alone, [S, D]: they look at all tokens, nothing looks at them
    afterwards.
    """
    return attend_from_first(x_TD, block.norm1(x_TD), block, kept, rate, layout, kernels)


def attend_from_first(
    x_TD: Tensor,
    normed_TD: Tensor,
    block: Any,
    kept: tuple[Tensor, Tensor] | None,
    rate: float,
    layout: Layout,
    kernels: Kernels,
) -> Tensor:
    """The last block after its first norm."""
    width, heads = x_TD.shape[1], block.attn.num_heads
    weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
    q_SD = kernels.linear(first_tokens(normed_TD, layout), weight[:width], bias[:width])
    kv_TD = kernels.linear(normed_TD, weight[width:], bias[width:])
    queries, outputs = torch.split(q_SD, [m for m, _ in layout]), []
    for (m, n), q, rows in zip(layout, queries, _by_resolution(kv_TD, layout), strict=True):
        kv = rows.view(m, n, 2, heads, -1).permute(2, 0, 3, 1, 4)
        outputs.append(_rows(kernels.attention(q.view(m, heads, 1, -1), *kv.unbind())))
    return _rest_of_block(
        first_tokens(x_TD, layout), torch.cat(outputs), block, kept, rate, kernels
    )


def _by_resolution(x_TD: Tensor, layout: Layout) -> tuple[Tensor, ...]:
    return torch.split(x_TD, [m * n for m, n in layout])


def _rest_of_block(
    x: Tensor,
    attended: Tensor,
    block: Any,
    kept: tuple[Tensor, Tensor] | None,
    rate: float,
    kernels: Kernels,
) -> Tensor:
    attention, mlp = block.attn, block.mlp
    branch = kernels.linear(attended, attention.proj.weight, attention.proj.bias)
    x = _add(x, branch, kept[0] if kept else None, rate)
    hidden = kernels.linear(block.norm2(x), mlp.fc1.weight, mlp.fc1.bias)
    branch = kernels.linear(gelu(hidden), mlp.fc2.weight, mlp.fc2.bias)
    return _add(x, branch, kept[1] if kept else None, rate)


def _add(x: Tensor, branch: Tensor, kept: Tensor | None, rate: float) -> Tensor:
    """The residual sum; a dropped sample keeps x, a kept one has its branch scaled up for it."""
    if kept is None:
        return x + branch
    return torch.addcmul(x, branch, kept, value=1 / (1 - rate))


def _rows(attended_MANW: Tensor) -> Tensor:
    """[M, A, N, W] -> [M x N, A x W]."""
    return attended_MANW.transpose(1, 2).flatten(2).flatten(0, 1)


def first_tokens(x_TD: Tensor, layout: Layout) -> Tensor:
    """The rows of the [CLS] tokens, [S, D]; by slices, whose gradient needs no sorting."""
    pieces = zip(layout, _by_resolution(x_TD, layout), strict=True)
    return torch.cat([rows.view(m, n, -1)[:, 0] for (m, n), rows in pieces])
