"""Pre-norm blocks on CUDA GPUs in bfloat16: cuBLAS for products, `triton_rows` for the rest.

The mathematics of `blocks.run_block` with other rounding (parity class B). Three choices make it
fast and small:
- a block hands on its residual stream and, beside it, the branch still to be added, so that the sum
  goes into the pass of the next norm;
- gradients are written out by hand, so that only what cannot be made again is kept: the normalised
  rows, queries, keys, values and what they attended to, and the hidden layer before its GELU, 10
  numbers a token and feature, where automatic differentiation of the same block keeps about 18;
- weights are turned to bfloat16 all at once.

Shapes: T rows, D width, H hidden width of the MLP, A heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from repro.dino.fast.blocks import Layout, attend_from_first
from repro.dino.fast.kernels import Kernels
from repro.dino.fast.triton_attention import attend, attend_backward
from repro.dino.fast.triton_rows import (
    add_norm,
    add_norm_backward,
    bias_gelu,
    bias_gelu_backward,
)

HALF = torch.bfloat16
aten = torch.ops.aten


class Branch(NamedTuple):
    """A branch that is still to be added: x + scale kept (values + bias)."""

    values_TD: Tensor | None
    bias_D: Tensor | None
    kept_T: Tensor | None  # None: all rows keep it
    scale: float


NO_BRANCH = Branch(None, None, None, 1.0)


class HalfWeights(NamedTuple):
    """A block's weights in bfloat16."""

    qkv: Tensor
    qkv_bias: Tensor
    proj: Tensor
    fc1: Tensor
    fc2: Tensor


@dataclass(frozen=True)
class Settings:
    """What a block does besides its weights; `attention` names a kernel for each resolution."""

    layout: Layout
    heads: int
    attention: Sequence[str]
    keeps: bool  # whether a backward pass follows


def half_weights(blocks: Sequence[Any]) -> list[HalfWeights]:
    """All blocks' weights in bfloat16, in few launches."""
    full = [tensor.detach() for block in blocks for tensor in _weights(block)]
    half = [torch.empty_like(tensor, dtype=HALF) for tensor in full]
    if full:  # a block alone is the last one
        torch._foreach_copy_(half, full)
    size = len(HalfWeights._fields)
    return [HalfWeights(*half[i : i + size]) for i in range(0, len(half), size)]


def _weights(block: Any) -> list[Tensor]:
    attention, mlp = block.attn, block.mlp
    qkv, proj = attention.qkv, attention.proj
    return [qkv.weight, qkv.bias, proj.weight, mlp.fc1.weight, mlp.fc2.weight]


def run_fused_block(
    x_TD: Tensor, before: Branch, block: Any, half: HalfWeights, kept: Branch, settings: Settings
) -> tuple[Tensor, Branch]:
    """The residual stream and the branch to be added, after a block.

    Args:
        before: the branch to be added to x first.
        kept: whose `kept_T` and `scale` this block's attention takes; those of its MLP are set by
            the caller on what is returned.
    """
    attention, mlp = block.attn, block.mlp
    x_TD, values_TD = _Block.apply(
        x_TD, before.values_TD, before.bias_D,
        block.norm1.weight, block.norm1.bias, attention.qkv.weight, attention.qkv.bias,
        attention.proj.weight, attention.proj.bias,
        block.norm2.weight, block.norm2.bias, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight,
        half, before, kept, settings,
    )  # fmt: skip
    return x_TD, Branch(values_TD, mlp.fc2.bias, None, 1.0)


def run_fused_blocks(
    x_TD: Tensor,
    blocks: Sequence[Any],
    kept: Sequence[tuple[Tensor, Tensor] | None],
    rates: Sequence[float],
    layout: Layout,
    kernels: Kernels,
) -> Tensor:
    """All blocks; the last one for the [CLS] tokens alone, [S, D].

    Args:
        x_TD: fp32.
        kept: for every block columns of ones and zeros, which rows keep its two branches.
    """
    assert x_TD.dtype is torch.float32, f"{x_TD.dtype}: the residual stream is fp32"
    *all_but_last, last = blocks
    settings = Settings(
        layout,
        last.attn.num_heads,
        [kernels.row_attention[n] for _, n in layout],
        keeps=torch.is_grad_enabled(),
    )
    branch = NO_BRANCH
    halves = half_weights(all_but_last)
    for block, half, pair, rate in zip(all_but_last, halves, kept, rates, strict=False):
        first, second = (None, None) if pair is None else (p.view(-1) for p in pair)
        scale = 1 / (1 - rate)
        taken = Branch(None, None, first, scale)
        x_TD, branch = run_fused_block(x_TD, branch, block, half, taken, settings)
        branch = branch._replace(kept_T=second, scale=scale)
    norm = last.norm1
    x_TD, normed_TD = AddNorm.apply(
        x_TD, branch.values_TD, branch.bias_D, norm.weight, norm.bias, branch, settings.keeps
    )
    return attend_from_first(x_TD, normed_TD, last, kept[-1], rates[-1], layout, kernels)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        branch_TD: Tensor | None,
        bias_D: Tensor | None,
        gamma1_D: Tensor,
        beta1_D: Tensor,
        _qkv: Tensor,
        _qkv_bias: Tensor,
        _proj: Tensor,
        proj_bias_D: Tensor,
        gamma2_D: Tensor,
        beta2_D: Tensor,
        _fc1: Tensor,
        fc1_bias_H: Tensor,
        _fc2: Tensor,
        half: HalfWeights,
        before: Branch,
        kept: Branch,
        settings: Settings,
    ) -> tuple[Tensor, Tensor]:
        keeps = settings.keeps
        x_TD, y_TD, normed1_TD, rstd1_T = add_norm(
            x_TD, branch_TD, bias_D, before.kept_T, before.scale, gamma1_D, beta1_D, HALF, keeps
        )
        qkv_T3D = torch.addmm(half.qkv_bias, y_TD, half.qkv.t())
        attended_TD = torch.empty_like(y_TD)
        logs = _attend(qkv_T3D, attended_TD, settings)
        values_TD = attended_TD @ half.proj.t()
        x_TD, y_TD, normed2_TD, rstd2_T = add_norm(
            x_TD, values_TD, proj_bias_D, kept.kept_T, kept.scale, gamma2_D, beta2_D, HALF, keeps
        )
        hidden_TH = y_TD @ half.fc1.t()
        values_TD = bias_gelu(hidden_TH, fc1_bias_H) @ half.fc2.t()
        if keeps:
            ctx.save_for_backward(
                normed1_TD, rstd1_T, qkv_T3D, attended_TD, normed2_TD, rstd2_T, hidden_TH,
                gamma1_D, beta1_D, gamma2_D, beta2_D, fc1_bias_H,
            )  # fmt: skip
            ctx.rest = half, before, kept, settings, logs
        return x_TD, values_TD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dx_TD, dvalues_TD = gradients
        half, before, kept, settings, logs = ctx.rest
        (
            normed1_TD, rstd1_T, qkv_T3D, attended_TD, normed2_TD, rstd2_T, hidden_TH,
            gamma1_D, beta1_D, gamma2_D, beta2_D, fc1_bias_H,
        ) = ctx.saved_tensors  # fmt: skip
        # MLP
        dgelu_TH = dvalues_TD @ half.fc2
        dhidden_TH, gelu_TH, dfc1_bias_H = bias_gelu_backward(dgelu_TH, hidden_TH, fc1_bias_H)
        dfc2 = product_of_rows(dvalues_TD, gelu_TH)
        two = add_norm_backward(
            dhidden_TH @ half.fc1, dx_TD, normed2_TD, rstd2_T, kept.kept_T, kept.scale,
            gamma2_D, beta2_D, branch=True,
        )  # fmt: skip
        dfc1 = product_of_rows(dhidden_TH, two.y_TD)
        # attention
        assert two.branch_TD is not None
        dproj = product_of_rows(two.branch_TD, attended_TD)
        dattended_TD = two.branch_TD @ half.proj
        dqkv_T3D = torch.empty_like(qkv_T3D)
        _attend_backward(qkv_T3D, attended_TD, dattended_TD, dqkv_T3D, logs, settings)
        one = add_norm_backward(
            dqkv_T3D @ half.qkv, two.x_TD, normed1_TD, rstd1_T, before.kept_T, before.scale,
            gamma1_D, beta1_D, branch=before.values_TD is not None,
        )  # fmt: skip
        dqkv = product_of_rows(dqkv_T3D, one.y_TD)
        dqkv_bias = dqkv_T3D.sum(dim=0, dtype=torch.float32)
        return (
            one.x_TD, one.branch_TD, one.bias_D, one.gamma_D, one.beta_D, dqkv, dqkv_bias,
            dproj, two.bias_D, two.gamma_D, two.beta_D, dfc1, dfc1_bias_H, dfc2,
            None, None, None, None,
        )  # fmt: skip


class AddNorm(torch.autograd.Function):
    """x' = x + branch and y = LN(x'), for the block that is not run by `run_fused_block`."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        branch_TD: Tensor | None,
        bias_D: Tensor | None,
        gamma_D: Tensor,
        beta_D: Tensor,
        before: Branch,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        sum_TD, y_TD, normed_TD, rstd_T = add_norm(
            x_TD, branch_TD, bias_D, before.kept_T, before.scale, gamma_D, beta_D, HALF, keeps
        )
        ctx.save_for_backward(normed_TD, rstd_T, gamma_D, beta_D)
        ctx.before = before
        return (sum_TD if branch_TD is not None else sum_TD.clone()), y_TD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dsum_TD, dy_TD = gradients
        normed_TD, rstd_T, gamma_D, beta_D = ctx.saved_tensors
        before = ctx.before
        one = add_norm_backward(
            dy_TD.contiguous(), dsum_TD.contiguous(), normed_TD, rstd_T, before.kept_T,
            before.scale, gamma_D, beta_D, branch=before.values_TD is not None,
        )  # fmt: skip
        return one.x_TD, one.branch_TD, one.bias_D, one.gamma_D, one.beta_D, None, None


def product_of_rows(gradient_TN: Tensor, x_TK: Tensor) -> Tensor:
    """A linear layer's weight gradient, [N, K], in fp32."""
    if gradient_TN.is_cuda:
        product: Tensor = torch.mm(gradient_TN.t(), x_TK, out_dtype=torch.float32)
        return product
    return gradient_TN.t().float() @ x_TK.float()


def attention_and_gradient(qkv_T3D: Tensor, samples: int, heads: int, name: str) -> Tensor:
    """One resolution by the kernel of that name, there and back; to measure it."""
    rows, width = len(qkv_T3D), qkv_T3D.shape[1] // 3
    settings = Settings([(samples, rows // samples)], heads, [name], keeps=True)
    out_TD, gradient_T3D = qkv_T3D.new_empty(rows, width), torch.empty_like(qkv_T3D)
    kept = _attend(qkv_T3D, out_TD, settings)
    _attend_backward(qkv_T3D, out_TD, out_TD, gradient_T3D, kept, settings)
    return gradient_T3D


def _pieces(settings: Settings) -> list[tuple[slice, int, str]]:
    """Rows, samples and attention kernel of every resolution."""
    found, start = [], 0
    for (m, n), name in zip(settings.layout, settings.attention, strict=True):
        found.append((slice(start, start + m * n), m, name))
        start += m * n
    return found


def _attend(qkv_T3D: Tensor, out_TD: Tensor, settings: Settings) -> list[Any]:
    """Write what every row attends to; what the backward pass needs of every resolution."""
    kept: list[Any] = []
    for rows, samples, name in _pieces(settings):
        if name == "rows":
            kept.append(attend(qkv_T3D[rows], out_TD[rows], samples, settings.heads))
            continue
        q, k, v = _heads(qkv_T3D[rows], samples, settings.heads)
        out, *rest = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, False, False)
        _by_sample(out_TD[rows], samples, settings.heads).copy_(out.transpose(1, 2))
        kept.append(rest[:-1])
    return kept


def _attend_backward(
    qkv_T3D: Tensor,
    out_TD: Tensor,
    dout_TD: Tensor,
    dqkv_T3D: Tensor,
    kept: list[Any],
    settings: Settings,
) -> None:
    for (rows, samples, name), logs in zip(_pieces(settings), kept, strict=True):
        if name == "rows":
            attend_backward(
                qkv_T3D[rows], out_TD[rows], dout_TD[rows], logs, dqkv_T3D[rows], samples
            )
            continue
        q, k, v = _heads(qkv_T3D[rows], samples, settings.heads)
        out = _by_sample(out_TD[rows], samples, settings.heads).transpose(1, 2)
        dout = _by_sample(dout_TD[rows], samples, settings.heads).transpose(1, 2)
        sums, counts_q, counts_k, most_q, most_k, seed, offset = logs
        found = aten._scaled_dot_product_flash_attention_backward(
            dout, q, k, v, out, sums, counts_q, counts_k, most_q, most_k, 0.0, False, seed, offset
        )
        targets = _heads(dqkv_T3D[rows], samples, settings.heads)
        for target, gradient in zip(targets, found, strict=True):
            target.copy_(gradient)


def _heads(qkv_T3D: Tensor, samples: int, heads: int) -> tuple[Tensor, ...]:
    """Queries, keys and values, [M, A, N, W] each, views of the rows."""
    rows, width = qkv_T3D.shape
    by_part = qkv_T3D.view(samples, rows // samples, 3, heads, width // (3 * heads))
    return by_part.permute(2, 0, 3, 1, 4).unbind()


def _by_sample(x_TD: Tensor, samples: int, heads: int) -> Tensor:
    rows, width = x_TD.shape
    return x_TD.view(samples, rows // samples, heads, width // heads)
