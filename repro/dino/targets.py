"""Targets: centering and sharpening of the teacher's output (Sec. 3.1, Eq. 4, Algorithm 1).

Shapes: G global views, B images, K prototypes.

The centre is subtracted, as in Algorithm 1 and the authors' code (the text of Sec. 3.1 says a bias
is added). The centre in use is the value before this step's update, and it starts at zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repro.config import TargetConfig


class Centre(nn.Module):
    """The running mean c of the teacher's logits, [K]."""

    centre_K: Tensor

    def __init__(self, prototypes: int, config: TargetConfig) -> None:
        super().__init__()
        self.enabled = config.centering
        self.momentum = config.centre_momentum
        self.register_buffer("centre_K", torch.zeros(prototypes))

    def targets(self, teacher_GBK: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Probabilities and their logarithms, both [G, B, K], with the current centre."""
        log_targets_GBK = ((teacher_GBK - self.centre_K) / temperature).log_softmax(dim=-1)
        return log_targets_GBK.exp(), log_targets_GBK

    @torch.no_grad()
    def update(self, teacher_GBK: Tensor) -> None:
        """c <- m c + (1 - m) mean over views and images of the raw logits (Eq. 4)."""
        if self.enabled:
            batch_mean_K = teacher_GBK.mean(dim=(0, 1))
            self.centre_K.mul_(self.momentum).add_(batch_mean_K, alpha=1 - self.momentum)
