"""Which implementation computes linear layers and attention: measured, once for each machine.

The reference path computes as the authors' code does, a resolution at a time. The fast path has the
same mathematics with other rounding (parity class B), and takes for every shape the implementation
that was fastest here. The answers are kept in a file of the user's cache folder, so that a resumed
run computes with the same floats as before, on the same machine.

- Linear layers in fp32 on CPUs: torch calls MKL, which on AMD processors leaves AVX-512 unused;
  oneDNN, which torch carries too, is then twice as fast.
- Attention: torch's fused kernel never stores N x N weights, which pays on GPUs and for long
  sequences; on CPUs in bfloat16 plain matrix products are 3 to 8 times faster.

Shapes: B samples, A heads, N tokens, W width of a head.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from repro.config.schema import CodePath, Family, Precision, RunConfig
from repro.hardware import cpu_model
from repro.kept import Answers

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
CLEARLY_FASTER = 1.15  # than the usual implementation, or that one stays
ROUNDS = 4
MEASURED_SAMPLES = 16  # of a batch; more take longer and answer the same
MEASURED_ROWS = 1024
CHOSEN = Answers("kernels")


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
    compiled: bool = False
    recompute: bool = False  # activations in the backward pass: less memory, a third more work

    @property
    def fast(self) -> bool:
        return self.path is CodePath.fast

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
            "compiled": self.compiled,
            "recompute": self.recompute,
        }


REFERENCE = Kernels()


def choose_kernels(config: RunConfig, device: torch.device) -> Kernels:
    """The kernels of a run on this machine; may measure for up to a second."""
    resources, model = config.resources, config.model
    if resources.path is CodePath.reference:
        return REFERENCE
    linear_name = "torch"
    precision = torch.bfloat16 if config.train.precision is Precision.bf16 else torch.float32
    if device.type == "cpu":
        linear_name = _faster_linear(model.dim)
    attention = {}
    if model.family is Family.vit:
        views = config.views
        sides = {views.global_size, *([views.local_size] if views.local_number else [])}
        shapes = {(precision, side) for side in sides}
        shapes.add((torch.float32, config.data.resolution))  # evaluation
        for dtype, side in sorted(shapes, key=str):
            tokens = (side // model.patch_size) ** 2 + 1
            name = _faster_attention(device.type, dtype, tokens, model.heads, model.dim)
            attention[dtype, tokens] = name
    compiled, recompute = resources.compile, resources.recompute
    return Kernels(CodePath.fast, linear_name, attention, compiled, recompute)


def _faster_linear(dim: int) -> str:
    x = torch.randn(MEASURED_ROWS, dim)
    weight = torch.randn(4 * dim, dim, requires_grad=True)

    def run(kernel: Linear) -> Callable[[], object]:
        return lambda: kernel(x, weight, None).sum().backward()  # type: ignore[no-untyped-call]

    return fastest(f"linear {dim}", "cpu", {name: run(k) for name, k in LINEAR.items()})


def _faster_attention(device: str, dtype: torch.dtype, tokens: int, heads: int, dim: int) -> str:
    shape = (3, MEASURED_SAMPLES, heads, tokens, dim // heads)
    qkv = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)

    def run(kernel: Attention) -> Callable[[], object]:
        return lambda: kernel(*qkv.unbind()).sum().backward()  # type: ignore[no-untyped-call]

    question = f"attention {dtype} {tokens} tokens {heads} x {dim // heads}"
    return fastest(question, device, {name: run(k) for name, k in ATTENTION.items()})


def fastest(question: str, device: str, candidates: Mapping[str, Callable[[], object]]) -> str:
    """The fastest candidate on this machine, asked once. The first is the usual one: another one
    must be clearly faster, so that noise decides nothing.
    """
    hardware = torch.cuda.get_device_name() if device == "cuda" else cpu_model()
    key = f"{hardware} | torch {torch.__version__} | {torch.get_num_threads()} threads | {question}"
    one_of_them = Literal[tuple(candidates)]  # type: ignore[valid-type]  # known here only
    return CHOSEN.get_for_good(key, one_of_them, lambda: _measure(device, candidates))


def _measure(device: str, candidates: Mapping[str, Callable[[], object]]) -> str:
    seconds = dict.fromkeys(candidates, float("inf"))
    with torch.enable_grad():
        for name, call in [*candidates.items()] * ROUNDS:
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    usual, best = next(iter(seconds)), min(seconds, key=lambda name: seconds[name])
    return best if seconds[usual] > CLEARLY_FASTER * seconds[best] else usual
