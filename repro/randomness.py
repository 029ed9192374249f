"""Random numbers as a function of (seed, purpose, step, rank).

A run never carries random state: views, data order and drop path are re-seeded at every step, so a
resumed run equals an uninterrupted one bit for bit, and rows of one seed see the same views.

Departure from the authors' code: theirs seeds once per process, with the same seed on every rank,
and a resumed run replays the first epoch's augmentations.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
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


def image_seed(seed: int, image: int, step: int) -> int:
    """The seed for what is done to an image at a step."""
    return derive(seed, f"views of {image}", step)


def seed_everything(seed: int) -> None:
    """Torch's, numpy's and Python's global generators, which transforms of images draw from.

    Of torch's the CPU's alone: seeding those of all devices takes fifty times as long, and a
    process that decodes images beside a GPU must not touch it.
    """
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
