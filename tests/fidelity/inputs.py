"""Weights and crops of the golden trajectory, from seeded generators: no tensor is committed."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

EPOCHS, STEPS_PER_EPOCH, BATCH = 4, 5, 4
GLOBAL_SIZE, LOCAL_SIZE, LOCALS = 224, 96, 3
DIM, DEPTH, HEADS, PATCH = 32, 2, 2, 16
HIDDEN, BOTTLENECK, PROTOTYPES = 48, 16, 64
RATE, MIN_RATE, WARMUP_EPOCHS = 2e-3, 1e-4, 1
DECAY, DECAY_END = 0.04, 0.4
MOMENTUM = 0.9
TEMP_START, TEMP, TEMP_WARMUP_EPOCHS = 0.04, 0.07, 3
FREEZE_EPOCHS, CLIP = 1, 0.1
ENTRIES = 48  # of each tensor that the fixture holds


def initial(name: str, shape: torch.Size) -> Tensor:
    """A parameter's first value, a function of its name; norms are 1, prototypes' norms too."""
    random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=random)
    if name.endswith("weight_g"):
        return torch.ones(shape)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.05 * noise
    return (0.3 if name.endswith("weight_v") else 0.05) * noise


def crops(step: int) -> list[Tensor]:
    """Two global views and the local ones of one step, [BATCH, 3, side, side] each."""
    random = torch.Generator().manual_seed(1000 + step)
    sides = [GLOBAL_SIZE] * 2 + [LOCAL_SIZE] * LOCALS
    return [torch.randn(BATCH, 3, side, side, generator=random) for side in sides]


def summary(tensor: Tensor) -> dict[str, object]:
    """What the fixture says of a tensor: its norm and some evenly spaced entries."""
    flat = tensor.detach().double().flatten()
    places = torch.linspace(0, len(flat) - 1, min(ENTRIES, len(flat))).long()
    return {"norm": float(flat.norm()), "entries": flat[places].tolist()}
