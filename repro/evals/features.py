"""Frozen features (App. F.1): final-norm [CLS] of a ViT, pooled features of a ResNet.

Shapes: N images, D feature width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from repro.data.datasets import Split
from repro.dino import distributed

PIXEL_SIDE = 32  # raw pixels are compared at no more than 32 x 32


@torch.no_grad()
def extract_features(
    backbone: nn.Module, split: Split, batch_size: int, device: torch.device
) -> Tensor:
    """Features of all images in evaluation mode and fp32, [N, D] on `device`.

    Every rank extracts its share and receives the others'.
    """
    was_training = backbone.training
    backbone.eval()
    part = (distributed.rank(), distributed.ranks())
    features = [
        backbone(images.to(device)).float() for images in split.evaluation_batches(batch_size, part)
    ]
    backbone.train(was_training)
    return distributed.gather_shares(torch.cat(features), len(split.labels_N))


@torch.no_grad()
def pixel_features(split: Split, batch_size: int) -> Tensor:
    """Normalised pixels, averaged down to at most 32 x 32 and flattened, [N, 3 x side x side]."""
    features = []
    for images in split.evaluation_batches(batch_size):
        side = min(PIXEL_SIDE, images.shape[-1])
        features.append(adaptive_avg_pool2d(images, side).flatten(1))
    return torch.cat(features)
