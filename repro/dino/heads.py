"""Projection head of Sec. 3.1 and App. C.

Linear-GELU layers, an l2-normalised bottleneck, then K weight-normalised prototypes without bias.

Shapes: B images, D feature width, K prototypes.

As in the authors' code, the truncated-normal initialisation reaches the MLP only: the prototypes'
directions keep the default initialisation of a linear layer, and their norms start at 1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from repro.config import HeadConfig


class Prototypes(nn.Module):
    """K directions: logits are scale_k times the cosine between input and direction k."""

    def __init__(self, dim: int, prototypes: int, norm_frozen: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dim)
        self.directions = nn.Parameter(torch.empty(prototypes, dim).uniform_(-bound, bound))
        self.norms = nn.Parameter(torch.ones(prototypes, 1), requires_grad=not norm_frozen)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.norms * normalize(self.directions, dim=1))


class DinoHead(nn.Module):
    """[B, D] -> [B, K] logits."""

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__()
        widths = [dim, *[config.hidden_dim] * (config.layers - 1), config.bottleneck_dim]
        layers: list[nn.Module] = []
        for index, (wide_in, wide_out) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(wide_in, wide_out))
            if index < config.layers - 1:
                if config.batch_norm:
                    layers.append(nn.BatchNorm1d(wide_out))
                layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(
            config.bottleneck_dim, config.prototypes, norm_frozen=config.norm_last_layer
        )

    def forward(self, x: Tensor) -> Tensor:
        # fp32 before the division: bfloat16 norms lose the bottleneck's unit length.
        bottleneck = normalize(self.mlp(x).float(), dim=-1)
        logits: Tensor = self.last_layer(bottleneck)
        return logits
