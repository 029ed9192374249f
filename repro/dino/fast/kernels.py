"""Implementations of linear layers and attention, and which of them a network runs.

The reference path computes as the authors' code does, a resolution at a time. The fast path has the
same mathematics with other rounding (parity class B), and takes for every shape the implementation
that was fastest on this machine (`choice`).

- Linear layers in fp32 on CPUs: torch calls MKL, which on AMD processors leaves AVX-512 unused;
  oneDNN, which torch carries too, is then twice as fast.
- Attention: torch's fused kernel never stores N x N weights, which pays on GPUs and for long
  sequences; on CPUs in bfloat16 plain matrix products are 3 to 8 times faster.

Shapes: B samples, A heads, N tokens, W width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from repro.config.schema import CodePath

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


class OneDnnLinear(torch.autograd.Function):
    """A linear layer and its gradients by oneDNN's fp32 product; rows [M, K], weight [N, K]."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        needed = ctx.needs_input_grad  # type: ignore[attr-defined]
        rows_MN, rows_MK = gradient.flatten(0, -2), x.flatten(0, -2)
        return (
            _product(gradient, weight.T, None) if needed[0] else None,
            _product(rows_MN.T, rows_MK.T, None) if needed[1] else None,
            rows_MN.sum(dim=0) if needed[2] else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if torch.is_autocast_enabled("cpu") or x.dtype is not torch.float32 or x.device.type != "cpu":
        return linear(x, weight, bias)
    result: Tensor = OneDnnLinear.apply(x, weight, bias)
    return result


def fused_attention(q_BANW: Tensor, k_BANW: Tensor, v_BANW: Tensor) -> Tensor:
    return scaled_dot_product_attention(q_BANW, k_BANW, v_BANW)


def plain_attention(q_BANW: Tensor, k_BANW: Tensor, v_BANW: Tensor) -> Tensor:
    weights_BANN = (q_BANW * q_BANW.shape[-1] ** -0.5) @ k_BANW.transpose(-2, -1)
    attended_BANW: Tensor = weights_BANN.softmax(dim=-1) @ v_BANW
    return attended_BANW


LINEAR: dict[str, Linear] = {"torch": linear, "onednn": onednn_linear}
ATTENTION: dict[str, Attention] = {"fused": fused_attention, "plain": plain_attention}


@dataclass(frozen=True)
class Kernels:
    """How a network computes. The defaults are the reference path.

    `attention` maps (dtype, tokens) to a name in `ATTENTION`; what is not in it runs fused.
    """

    path: CodePath = CodePath.reference
    linear_name: str = "torch"
    attention_names: Mapping[tuple[torch.dtype, int], str] = field(default_factory=dict)
    # Where blocks are fused (bfloat16 on CUDA): attention on rows by tokens, "rows" or "flash".
    row_attention: Mapping[int, str] = field(default_factory=dict)
    not_fused: str = ""  # why blocks are not, where they might be
    compiled: bool = False
    recompute: bool = False  # activations in the backward pass: less memory, a third more work

    @property
    def fast(self) -> bool:
        return self.path is CodePath.fast

    def fuses(self, x: Tensor, tokens: Iterable[int]) -> bool:
        """Whether blocks on x, samples of so many tokens, run by `fused_blocks`."""
        half = torch.is_autocast_enabled(x.device.type)
        return half and bool(self.row_attention) and all(n in self.row_attention for n in tokens)

    @property
    def linear(self) -> Linear:
        return LINEAR[self.linear_name]

    def attention(self, q_BANW: Tensor, k_BANW: Tensor, v_BANW: Tensor) -> Tensor:
        name = self.attention_names.get((k_BANW.dtype, k_BANW.shape[-2]), "fused")
        return ATTENTION[name](q_BANW, k_BANW, v_BANW)

    def words(self) -> dict[str, object]:
        """For a run's record: which path ran, and with what."""
        attention = {
            f"{str(dtype).removeprefix('torch.')}, {tokens} tokens": name
            for (dtype, tokens), name in sorted(self.attention_names.items(), key=str)
        }
        return {
            "path": self.path.value,
            "linear": self.linear_name,
            "attention": attention,
            "row_attention": {f"{n} tokens": name for n, name in self.row_attention.items()},
            "not_fused": self.not_fused,
            "compiled": self.compiled,
            "recompute": self.recompute,
        }


REFERENCE = Kernels()
