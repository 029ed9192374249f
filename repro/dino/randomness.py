"""Random numbers as a function of (seed, purpose, step, rank).

A run never carries random state: views, data order and drop path are re-seeded at every step, so a
resumed run equals an uninterrupted one bit for bit, and rows of one seed see the same views.

Departure from the authors' code: theirs seeds once per process, with the same seed on every rank,
and a resumed run replays the first epoch's augmentations.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive(seed: int, purpose: str, step: int = 0, rank: int = 0) -> int:
    """A 63-bit seed; different purposes, steps and ranks give unrelated streams."""
    text = f"{seed}/{purpose}/{step}" + (f"/{rank}" if rank else "")
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator for `derive(seed, purpose, step)`."""
    return torch.Generator().manual_seed(derive(seed, purpose, step))


def epoch_order(seed: int, epoch: int, size: int) -> Tensor:
    """The order in which an epoch visits `size` images: a permutation, [size]."""
    return torch.randperm(size, generator=generator(seed, "order", epoch))
