"""Backbones of Table 1: ViT and ResNet behind one interface, images in, one feature out.

Shapes: M samples of a resolution, S samples of all resolutions, D feature width.

timm's ResNet starts the last batch norm of each block at zero; torchvision's, which the authors
use, does not.
"""

from __future__ import annotations

from typing import cast

import timm
import torch
from torch import Tensor, nn

from repro.config.schema import Family, ModelConfig
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.dino.vit import DinoViT


def build_backbone(
    config: ModelConfig,
    image_size: int,
    drop_path: float = 0.0,
    kernels: Kernels = REFERENCE,
) -> nn.Module:
    """A module [M, 3, H, W] -> [M, D]: final-norm [CLS] of a ViT, pooled features of a ResNet.

    Args:
        image_size: side of a global view, for which position embeddings are stored.
        drop_path: stochastic depth at the last block, rising linearly from 0 (ViT only).
    """
    if config.family is Family.vit:
        return DinoViT(config, image_size, drop_path, kernels)
    return timm.create_model(config.name, num_classes=0, zero_init_last=False)


def features_of(backbone: nn.Module, views: list[Tensor]) -> Tensor:
    """Features of views of several resolutions, one after another, [S, D]."""
    if isinstance(backbone, DinoViT):
        return backbone.forward_views(views)
    return torch.cat([backbone(view).float() for view in views])


def feature_dim(backbone: nn.Module) -> int:
    return int(cast(int, backbone.num_features))
