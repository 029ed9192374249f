"""Kernels that are compiled on the machine they run on are believed there once they agree with
plain torch: a compiler or a driver that gets one wrong costs speed, not numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from repro.dino.fast.blocks import run_block, run_last_block
from repro.dino.fast.kernels import Kernels

# Relative distance of results: bfloat16 keeps eight bits, and two blocks round some twenty times.
HALF_DISTANCE = 0.05
FULL_DISTANCE = 1e-4
SAMPLES = 3
Blocks = Callable[[Tensor], Tensor]
Walk = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Any, Tensor, Iterable[Tensor]]]


def why_not_fused(dim: int, heads: int, attention: dict[int, str], device: torch.device) -> str:
    """Why `fused_blocks` cannot be used here; empty where they compute what plain blocks do.

    Args:
        attention: kernels by tokens of a sequence, as in `Kernels.row_attention`.
    """
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        blocks = [Block(dim, heads, qkv_bias=True, norm_layer=norm) for _ in range(3)]
        network = nn.ModuleList(blocks).to(device)
        layout = [(SAMPLES, tokens) for tokens in attention]
        x_TD = torch.randn(sum(m * n for m, n in layout), dim, device=device)

    from repro.dino.fast import fused_blocks  # Triton, which only CUDA machines have

    def plain(x: Tensor) -> Tensor:
        for block in blocks[:-1]:
            x = run_block(x, block, None, 0.0, layout, Kernels())
        return run_last_block(x, blocks[-1], None, 0.0, layout, Kernels())

    def fused(x: Tensor) -> Tensor:
        kernels = Kernels(row_attention=attention)
        nothing: list[Any] = [None] * len(blocks)
        return fused_blocks.run_fused_blocks(
            x, blocks, nothing, [0.0] * len(blocks), layout, kernels
        )

    weights = list(network.parameters())
    return _why_they_differ(plain, fused, x_TD, weights, fused_blocks.HALF)


def _why_they_differ(
    plain: Blocks, fused: Blocks, x_TD: Tensor, weights: Sequence[Tensor], half: torch.dtype
) -> str:
    found = []
    for run in (plain, fused):
        leaf = x_TD.clone().requires_grad_()
        try:
            with torch.enable_grad(), torch.autocast(x_TD.device.type, half):
                result = run(leaf)
            gradients = torch.autograd.grad(result.float().square().sum(), [leaf, *weights])
        except Exception as error:
            if run is plain:
                raise
            return _in_one_line(error)
        found.append([result.detach(), *gradients])
    distance = max(relative_distance(*pair) for pair in zip(*found, strict=True))
    return "" if distance < HALF_DISTANCE else f"results {distance:.2g} from those of plain blocks"


def relative_distance(one: Tensor, other: Tensor) -> float:
    """|a - b| / |a|; infinite where a number is not finite."""
    distance = float((one.double() - other.double()).norm() / one.double().norm().clamp(min=1e-6))
    return distance if distance == distance else float("inf")


def why_losses_differ(plain: Walk, kernel: Walk, device: torch.device) -> str:
    """Why a loss's kernel cannot be used here; empty where it says what the plain walk does.

    Args:
        plain, kernel: as `loss.block_by_block`.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        student_VBK = torch.randn(4, 3, 300, device=device)
        logs_GBK = (3 * torch.randn(2, 3, 300, device=device)).log_softmax(dim=-1)
    given = student_VBK, logs_GBK.exp(), logs_GBK, 0.1, True
    try:
        found = [
            [gradient, loss, *sums] for gradient, loss, sums in (plain(*given), kernel(*given))
        ]
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver raises
        return _in_one_line(error)
    distance = max(relative_distance(*pair) for pair in zip(*found, strict=True))
    return "" if distance < FULL_DISTANCE else f"results {distance:.2g} from those of the plain one"


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
