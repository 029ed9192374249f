"""Optimisers, gradient clipping and the frozen last layer (Sec. 3.2 and the authors' code).

- AdamW for ViTs; for convnets SGD with momentum 0.9, or LARS for large batches. LARS is timm's,
  which follows You et al. (2017): a layer's rate is eta |w| / (|g| + decay |w|); the authors' code
  divides by |g + decay w|. Biases and 1-d parameters are neither decayed nor adapted in either.
- No weight decay on biases and 1-d parameters; class token, position embeddings and, when they
  are trainable, the prototypes' norms are decayed.
- `per_tensor` clipping bounds every tensor's gradient on its own, as the authors do; `global_norm`
  bounds the norm of all gradients together.
- While the last layer is frozen its gradients are dropped after clipping, so AdamW skips it
  entirely: no decay and no moments.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.optim.lars import Lars
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from repro.config.schema import ClipKind, OptimiserName

MOMENTUM = 0.9  # of SGD and LARS
TRUST = 0.001  # LARS's eta


def build_optimiser(student: nn.Module, kind: OptimiserName = OptimiserName.adamw) -> Optimizer:
    """Group 0 is decayed, group 1 is not; rates and decay are set at every step."""
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            group = plain if name.endswith(".bias") or parameter.ndim == 1 else decayed
            group.append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    if kind is OptimiserName.sgd:
        return SGD(groups, lr=0.0, momentum=MOMENTUM)
    if kind is OptimiserName.lars:
        lars: Optimizer = Lars(groups, lr=0.0, momentum=MOMENTUM, trust_coeff=TRUST)
        return lars
    return AdamW(groups, lr=0.0, betas=(0.9, 0.999), fused=True)


def set_rates(optimiser: Optimizer, lr: float, weight_decay: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.param_groups[0]["weight_decay"] = weight_decay


@torch.no_grad()
def clip_gradients(student: nn.Module, kind: ClipKind, limit: float) -> Tensor:
    """Clip in place; returns the norm of all gradients before clipping. Scalar."""
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    norms: list[Tensor] = []
    for group in groups(gradients):
        group_norms = torch._foreach_norm(group)
        norms += group_norms
        if kind is ClipKind.per_tensor:
            if group[0].is_cuda:  # no look at the norms, which would have to wait
                factors = (limit / (torch.stack(group_norms) + 1e-6)).clamp(max=1.0)
                torch._foreach_mul_(group, list(factors.unbind()))
            elif (factor := limit / (float(group_norms[0]) + 1e-6)) < 1:
                group[0].mul_(factor)
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    if kind is ClipKind.global_norm:
        torch._foreach_mul_(gradients, (limit / (total + 1e-6)).clamp(max=1.0))
    return total


def groups(tensors: list[Tensor]) -> list[list[Tensor]]:
    """What to work on at a time: on a GPU all tensors in one launch, on a CPU one tensor after the
    other, so that what follows finds it in the cache.
    """
    on_gpu = bool(tensors) and tensors[0].is_cuda
    return [tensors] if on_gpu else [[tensor] for tensor in tensors]


def freeze_last_layer(student: nn.Module) -> None:
    """Drop the gradients of the prototypes, so that this step leaves them untouched."""
    for name, parameter in student.named_parameters():
        if "last_layer" in name:
            parameter.grad = None
