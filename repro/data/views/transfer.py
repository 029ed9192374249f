"""From memory to the device without waiting for it: pinned memory, one copy for many tensors.

A copy from ordinary memory makes the host wait until a GPU has done all that was asked of it.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

ALIGNMENT = 16  # bytes at which each tensor of a common copy begins


def moved(values: Tensor, device: torch.device) -> Tensor:
    """`values` on the device; to a GPU the copy goes on beside the host's work."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def moved_together(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host on the device, in one copy."""
    if device.type == "cpu":
        return tensors
    return unpacked(moved(packed(tensors), device), tensors)


def packed(tensors: list[Tensor]) -> Tensor:
    """The bytes of all tensors, each beginning where any type of number may."""
    pack = torch.empty(sum(_rooms(tensors)), dtype=torch.uint8)
    for tensor, piece in zip(tensors, torch.split(pack, _rooms(tensors)), strict=True):
        piece[: tensor.nbytes] = tensor.flatten().view(torch.uint8)
    return pack


def unpacked(pack: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The tensors in a pack, which are views of it."""
    pieces = torch.split(pack, _rooms(like))
    return [
        piece[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for tensor, piece in zip(like, pieces, strict=True)
    ]


def _rooms(tensors: list[Tensor]) -> list[int]:
    return [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors]


@cache
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """A vector that is copied to a device once, for good."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)
