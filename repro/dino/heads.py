"""Projection head of Sec. 3.1 and App. C, and the predictor of BYOL (Tables 7 and 14).

Linear-GELU layers, an l2-normalised bottleneck, K weight-normalised prototypes without bias.
Without the bottleneck the MLP itself ends in K outputs: Appendix C's ablation, and the projection
of BYOL, MoCo-v2 and SimCLR.

Shapes: B images, D feature width, P projection width, K prototypes (K = P without the bottleneck).

As in the authors' code, the truncated-normal initialisation reaches the MLP only: the prototypes'
directions keep the default initialisation of a linear layer, and their norms start at 1.

The paper states neither shape nor place of the predictor. Here it maps a projection to one of the
same width, before the l2 norm and the prototypes: after K = 65,536 outputs it would be larger than
the network, and for BYOL, which has no prototypes, this is its published place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from repro.config.schema import Activation, HeadConfig, PredictorConfig
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.dino.fast.scaled_rows import ScaledRows

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.gelu: nn.GELU,
    Activation.relu: nn.ReLU,
}


class Prototypes(nn.Module):
    """K directions: logits are scale_k times the cosine between input and direction k."""

    def __init__(
        self, dim: int, prototypes: int, norm_frozen: bool, kernels: Kernels = REFERENCE
    ) -> None:
        super().__init__()
        self.kernels = kernels
        bound = 1 / math.sqrt(dim)
        self.directions = nn.Parameter(torch.empty(prototypes, dim).uniform_(-bound, bound))
        self.norms = nn.Parameter(torch.ones(prototypes, 1), requires_grad=not norm_frozen)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernels.fast:
            weights_KP: Tensor = ScaledRows.apply(self.directions, self.norms)
        else:
            weights_KP = self.norms * normalize(self.directions, dim=1)
        return self.kernels.linear(x, weights_KP, None)


class DinoHead(nn.Module):
    """[B, D] -> [B, K] logits; `project` and `classify` are its two halves."""

    def __init__(
        self,
        dim: int,
        config: HeadConfig,
        predictor: PredictorConfig | None = None,
        kernels: Kernels = REFERENCE,
    ) -> None:
        super().__init__()
        self.projection_dim = config.bottleneck_dim if config.l2_bottleneck else config.prototypes
        hidden = [config.hidden_dim] * (config.layers - 1)
        self.mlp = build_mlp(
            [dim, *hidden, self.projection_dim], config.activation, config.batch_norm, kernels
        )
        self.last_layer = (
            Prototypes(config.bottleneck_dim, config.prototypes, config.norm_last_layer, kernels)
            if config.l2_bottleneck
            else None
        )
        self.predictor = None
        if predictor is not None and predictor.used:
            hidden = [predictor.hidden_dim] * (predictor.layers - 1)
            self.predictor = build_mlp(
                [self.projection_dim, *hidden, self.projection_dim],
                predictor.activation,
                predictor.batch_norm,
                kernels,
            )

    def project(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, P]: MLP, the predictor where there is one, unit length with prototypes."""
        projection = self.mlp(x)
        if self.predictor is not None:
            projection = self.predictor(projection)
        # fp32 before the division: bfloat16 norms lose the bottleneck's unit length.
        projection = projection.float()
        return projection if self.last_layer is None else normalize(projection, dim=-1)

    def classify(self, projection_BP: Tensor) -> Tensor:
        """[B, P] -> [B, K]: the prototypes' logits, or the projection itself without them."""
        if self.last_layer is None:
            return projection_BP
        logits: Tensor = self.last_layer(projection_BP)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.project(x))


class Linear(nn.Linear):
    """A linear layer by the kernel that was chosen for it."""

    def __init__(self, wide_in: int, wide_out: int, kernels: Kernels) -> None:
        super().__init__(wide_in, wide_out)
        self.kernels = kernels

    def forward(self, x: Tensor) -> Tensor:
        return self.kernels.linear(x, self.weight, self.bias)


def build_mlp(
    widths: Sequence[int], activation: Activation, batch_norm: bool, kernels: Kernels
) -> nn.Sequential:
    """Linear layers; (BN and) activation after every one but the last."""
    layers: list[nn.Module] = []
    for index, (wide_in, wide_out) in enumerate(pairwise(widths)):
        layers.append(Linear(wide_in, wide_out, kernels))
        if index < len(widths) - 2:
            if batch_norm:
                layers.append(nn.BatchNorm1d(wide_out))
            layers.append(ACTIVATIONS[activation]())
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
