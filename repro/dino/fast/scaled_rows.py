"""Prototypes of given norms, with their own gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TINY = 1e-12  # as in torch's normalize


class ScaledRows(torch.autograd.Function):
    """Rows of the given norms in the given directions: n d / |d|, a third of the memory traffic of
    automatic differentiation (parity class B), which counts with K = 65,536 rows.

    With g the gradient of the result: n/|d| (g - u (u.g)) for d, and u.g for n, where u = d / |d|.
    """

    @staticmethod
    def forward(ctx: Any, directions_KP: Tensor, norms_K1: Tensor) -> Tensor:
        lengths_K1 = directions_KP.norm(dim=1, keepdim=True).clamp(min=TINY)
        ctx.save_for_backward(directions_KP, norms_K1, lengths_K1)
        rows_KP: Tensor = directions_KP * (norms_K1 / lengths_K1)
        return rows_KP

    @staticmethod
    def backward(ctx: Any, gradient_KP: Tensor) -> tuple[Tensor, Tensor | None]:
        directions_KP, norms_K1, lengths_K1 = ctx.saved_tensors
        along_K1 = (gradient_KP * directions_KP).sum(dim=1, keepdim=True) / lengths_K1
        scale_K1 = norms_K1 / lengths_K1
        result_KP = gradient_KP * scale_K1
        result_KP.addcmul_(directions_KP, along_K1 * scale_K1 / lengths_K1, value=-1)
        return result_KP, along_K1 if ctx.needs_input_grad[1] else None
