"""Which implementation of a linear layer and of attention is fastest here: measured, once for each
machine.

The answers are kept in a file of the user's cache folder, so that a resumed run computes with the
same floats as before, on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Literal

import torch

from repro.config.schema import CodePath, Family, Precision, RunConfig
from repro.dino.fast.kernels import ATTENTION, LINEAR, REFERENCE, Attention, Kernels, Linear
from repro.hardware import cpu_model
from repro.kept import Answers

CLEARLY_FASTER = 1.15  # than the usual implementation, or that one stays
ROUNDS = 4
MEASURED_SAMPLES = 16  # of a batch; more take longer and answer the same
MEASURED_ROWS = 1024
MEASURED_ROW_TOKENS = 2**14  # enough that a GPU's launches do not count
CHOSEN = Answers("kernels")


def choose_kernels(config: RunConfig, device: torch.device) -> Kernels:
    """The kernels of a run on this machine; may measure for up to a second."""
    resources, model = config.resources, config.model
    if resources.path is CodePath.reference:
        return REFERENCE
    linear_name = "torch"
    precision = torch.bfloat16 if config.train.precision is Precision.bf16 else torch.float32
    if device.type == "cpu":
        linear_name = faster_linear(model.dim)
    compiled, recompute = resources.compile, resources.recompute
    other_blocks = compiled or recompute or find_spec("triton") is None
    attention, row_attention = {}, {}
    if model.family is Family.vit:
        views = config.views
        sides = {views.global_size, *([views.local_size] if views.local_number else [])}
        shapes = {(precision, side) for side in sides}
        shapes.add((torch.float32, config.data.resolution))  # evaluation
        for dtype, side in sorted(shapes, key=str):
            tokens = (side // model.patch_size) ** 2 + 1
            name = faster_attention(device.type, dtype, tokens, model.heads, model.dim)
            attention[dtype, tokens] = name
            if dtype is torch.bfloat16 and device.type == "cuda" and not other_blocks:
                row_attention[tokens] = faster_row_attention(tokens, model.heads, model.dim)
    return Kernels(CodePath.fast, linear_name, attention, row_attention, compiled, recompute)


def faster_linear(dim: int) -> str:
    x = torch.randn(MEASURED_ROWS, dim)
    weight = torch.randn(4 * dim, dim, requires_grad=True)

    def run(kernel: Linear) -> Callable[[], object]:
        return lambda: kernel(x, weight, None).sum().backward()  # type: ignore[no-untyped-call]

    return fastest(f"linear {dim}", "cpu", {name: run(k) for name, k in LINEAR.items()})


def faster_attention(device: str, dtype: torch.dtype, tokens: int, heads: int, dim: int) -> str:
    shape = (3, MEASURED_SAMPLES, heads, tokens, dim // heads)
    qkv = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)

    def run(kernel: Attention) -> Callable[[], object]:
        return lambda: kernel(*qkv.unbind()).sum().backward()  # type: ignore[no-untyped-call]

    question = f"attention {dtype} {tokens} tokens {heads} x {dim // heads}"
    return fastest(question, device, {name: run(k) for name, k in ATTENTION.items()})


def faster_row_attention(tokens: int, heads: int, dim: int) -> str:
    """Attention within fused blocks: by `triton_attention` or by torch's flash kernel."""
    from repro.dino.fast import fused_blocks  # Triton, which only CUDA machines have

    samples = -(-MEASURED_ROW_TOKENS // tokens)
    qkv = torch.randn(samples * tokens, 3 * dim, device="cuda", dtype=torch.bfloat16)

    def run(name: str) -> Callable[[], object]:
        return lambda: fused_blocks.attention_and_gradient(qkv, samples, heads, name)

    question = f"attention of rows, {tokens} tokens {heads} x {dim // heads}"
    return fastest(question, "cuda", {name: run(name) for name in ("flash", "rows")})


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
