"""Backbones of Table 1: timm's ViT and ResNet behind one interface, images in, one feature out.

Shapes: B images, D feature width, N patch tokens.

Where timm's ViT differs from the authors' (`vision_transformer.py`), theirs is restored:
- the class token starts from a truncated normal of 0.02 (timm: a normal of 1e-6);
- position embeddings are resampled bicubically without antialiasing, with scale factor
  (side + 0.1) / stored side used for the coordinates (timm: by size, antialiased).
The parameters' names are timm's, which are also those of the released checkpoints. timm's ResNet
starts the last batch norm of each block at zero; torchvision's, which the authors use, does not.
"""

from __future__ import annotations

import math
from typing import cast

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from repro.config import Family, ModelConfig


class DinoViT(VisionTransformer):
    """timm's ViT with the authors' class token and position resampling."""

    def __init__(self, config: ModelConfig, image_size: int, drop_path: float) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=config.patch_size,
            embed_dim=config.dim,
            depth=config.depth,
            num_heads=config.heads,
            num_classes=0,
            drop_path_rate=drop_path,
            dynamic_img_size=True,
        )
        assert self.cls_token is not None
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def _pos_embed(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape  # patches as a grid, because of dynamic_img_size
        assert self.cls_token is not None
        assert self.pos_embed is not None
        positions = resample_positions(self.pos_embed, height, width)
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), x.view(batch, -1, dim)], dim=1)
        return cast(Tensor, self.pos_drop(tokens + positions))


def resample_positions(positions_1ND: Tensor, height: int, width: int) -> Tensor:
    """Position embeddings ([CLS] first) for a grid of height x width patches, [1, 1+N', D]."""
    stored = positions_1ND.shape[1] - 1
    if height * width == stored and height == width:
        return positions_1ND
    side = math.isqrt(stored)
    grid = positions_1ND[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((height + 0.1) / side, (width + 0.1) / side)
    grid = interpolate(grid, scale_factor=factors, mode="bicubic")
    assert grid.shape[-2:] == (height, width), f"{tuple(grid.shape)} is not {height}x{width}"
    patches = grid.permute(0, 2, 3, 1).reshape(1, height * width, -1)
    return torch.cat([positions_1ND[:, :1], patches], dim=1)


def build_backbone(config: ModelConfig, image_size: int, drop_path: float = 0.0) -> nn.Module:
    """A module [B, 3, H, W] -> [B, D]: final-norm [CLS] of a ViT, pooled features of a ResNet.

    Args:
        image_size: side of a global view, for which position embeddings are stored.
        drop_path: stochastic depth at the last block, rising linearly from 0 (ViT only).
    """
    if config.family is Family.vit:
        return DinoViT(config, image_size, drop_path)
    return timm.create_model(config.name, num_classes=0, zero_init_last=False)


def feature_dim(backbone: nn.Module) -> int:
    return int(cast(int, backbone.num_features))
