"""Implementations of linear layers and attention, and which of them a network runs.

The reference path computes as the authors' code does, a resolution at a time. The fast path has the
same mathematics with other rounding (parity class B), and takes for every shape the implementation
that was fastest on this machine (`choice`).

- Linear layers on CPUs: in fp32 torch calls MKL, which on AMD processors leaves AVX-512 unused;
  oneDNN, which torch carries too, is then twice as fast. In bfloat16 torch calls oneDNN, but adds
  the bias before and sums its gradient, which cost an eighth of the layer.
- Attention: torch's fused kernel never stores N x N weights, which pays on GPUs and for long
  sequences; on CPUs in bfloat16 plain matrix products are 3 to 8 times faster.

Shapes: B samples, A heads, C heads of all samples, N tokens, W width of a head.
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
    """A linear layer and its gradients by oneDNN's products; rows [M, K], weight [N, K]."""

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
            _input_gradient(gradient, weight) if needed[0] else None,
            _weight_gradient(rows_MN, rows_MK) if needed[1] else None,
            _bias_gradient(rows_MN) if needed[2] else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The bias is added while the product is written; torch writes it first and reads it again."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    half = gradient.dtype is torch.bfloat16  # whose products torch leaves to oneDNN anyway
    return gradient @ weight if half else _product(gradient, weight.T, None)


def _weight_gradient(rows_MN: Tensor, rows_MK: Tensor) -> Tensor:
    if rows_MN.dtype is torch.bfloat16:
        return rows_MN.T @ rows_MK
    if rows_MN.shape[1] <= rows_MK.shape[1]:  # the left one is copied: the narrower
        return _product(_transposed(rows_MN), rows_MK.T, None)
    return _product(_transposed(rows_MK), rows_MN.T, None).T


def _bias_gradient(rows_MN: Tensor) -> Tensor:
    if rows_MN.dtype is torch.bfloat16:  # by a product that adds in fp32, twice as fast as the sum
        return (rows_MN.new_ones(1, len(rows_MN)) @ rows_MN).squeeze(0)
    return rows_MN.sum(dim=0)  # which is more exact than MKL's product


def _transposed(rows_MN: Tensor) -> Tensor:
    """A contiguous copy, [N, M]; of a matrix torch makes it on a single core."""
    if torch.get_num_threads() == 1:
        return rows_MN.T.contiguous()
    return rows_MN.unsqueeze(2).transpose(0, 1).contiguous().squeeze(2)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if torch.is_autocast_enabled("cpu") and x.dtype in (torch.float32, torch.bfloat16):
        half = torch.get_autocast_dtype("cpu")
        x, weight = x.to(half), weight.to(half)
        bias = None if bias is None else bias.to(half)
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return linear(x, weight, bias)
    result: Tensor = OneDnnLinear.apply(x, weight, bias)
    return result


def fused_attention(q_BANW: Tensor, k_BANW: Tensor, v_BANW: Tensor) -> Tensor:
    return scaled_dot_product_attention(q_BANW, k_BANW, v_BANW)


def plain_attention(q_BANW: Tensor, k_BANW: Tensor, v_BANW: Tensor) -> Tensor:
    q_CNW, k_CNW, v_CNW = (t.flatten(0, 1) for t in (q_BANW, k_BANW, v_BANW))
    nothing = q_CNW.new_empty(1, 1, 1)  # what baddbmm adds 0 times: it scales while it writes
    scale = q_BANW.shape[-1] ** -0.5
    weights_CNN = torch.baddbmm(nothing, q_CNW, k_CNW.transpose(1, 2), beta=0, alpha=scale)
    attended_CNW = weights_CNN.softmax(dim=-1) @ v_CNW
    return attended_CNW.view(q_BANW.shape)


LINEAR: dict[str, Linear] = {"torch": linear, "onednn": onednn_linear}
ATTENTION: dict[str, Attention] = {"fused": fused_attention, "plain": plain_attention}


@dataclass(frozen=True)
class Kernels:
    """How a network computes. The defaults are the reference path.

    `attention` maps (dtype, tokens) to a name in `ATTENTION`; what is not in it runs fused.
    """

    path: CodePath = CodePath.reference
    linear_name: str = "torch"
    half_linear_name: str = "torch"  # in bfloat16
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

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        half = x.dtype is torch.bfloat16 or (x.is_cpu and torch.is_autocast_enabled("cpu"))
        return LINEAR[self.half_linear_name if half else self.linear_name](x, weight, bias)

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
            "half_linear": self.half_linear_name,
            "attention": attention,
            "row_attention": {f"{n} tokens": name for n, name in self.row_attention.items()},
            "not_fused": self.not_fused,
            "compiled": self.compiled,
            "recompute": self.recompute,
        }


REFERENCE = Kernels()
