"""Targets: what the student is asked to predict (Sec. 3.1, Eq. 4, Algorithm 1; App. B, Table 15).

Centering shifts the teacher's output by its running mean; an operation then turns it into
probabilities: a softmax with temperature (sharpening), Sinkhorn-Knopp, or a softmax over the batch.

Shapes: G global views, B images, K outputs, N = further images from a queue plus B.

- The centre is subtracted, as in Algorithm 1 and the authors' code (the text of Sec. 3.1 says a
  bias is added). The centre in use is that from before this step's update; it starts at zero.
- Sinkhorn-Knopp works on one view at a time, as in SwAV, and in logarithms: the paper's loop starts
  with exp(x / tau), which overflows in fp32 beyond 88 tau.
- Softmax over the batch (App. B) is Sinkhorn-Knopp with a single iteration; both are written so.
- Temperature 0 is the limit of App. D: all the mass on the largest output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from repro import distributed
from repro.config.schema import Operation, TargetConfig

TINY = torch.finfo(torch.float32).tiny


class Centre(nn.Module):
    """The running mean c of the teacher's logits, [K]."""

    centre_K: Tensor

    def __init__(self, outputs: int, config: TargetConfig) -> None:
        super().__init__()
        self.enabled = config.centering
        self.momentum = config.centre_momentum
        self.register_buffer("centre_K", torch.zeros(outputs))

    def subtract(self, teacher_GBK: Tensor) -> Tensor:
        return teacher_GBK - self.centre_K

    @torch.no_grad()
    def moved(self, teacher_GBK: Tensor) -> Tensor:
        """m c + (1 - m) mean over views, images and ranks of the raw logits (Eq. 4)."""
        if not self.enabled:
            return self.centre_K
        batch_mean_K = distributed.mean(teacher_GBK.mean(dim=(0, 1)))
        return self.centre_K.mul(self.momentum).add_(batch_mean_K, alpha=1 - self.momentum)

    def update(self, teacher_GBK: Tensor) -> None:
        self.centre_K.copy_(self.moved(teacher_GBK))


@torch.no_grad()
def log_probabilities(
    config: TargetConfig, teacher_GBK: Tensor, temperature: float, queue_QK: Tensor | None = None
) -> Tensor:
    """Logarithms of the targets, [G, B, K], from centred logits.

    Args:
        queue_QK: logits of earlier images, which Sinkhorn-Knopp balances together with these.
    """
    if config.operation is Operation.softmax:
        if temperature == 0:
            return one_hot_logs(teacher_GBK.argmax(dim=-1), teacher_GBK.shape[-1])
        return (teacher_GBK / temperature).log_softmax(dim=-1)
    iterations = config.sinkhorn_iterations if config.operation is Operation.sinkhorn_knopp else 1
    return torch.stack(
        [sinkhorn_knopp(view_BK, temperature, iterations, queue_QK) for view_BK in teacher_GBK]
    )


def sinkhorn_knopp(
    logits_BK: Tensor, temperature: float, iterations: int, queue_QK: Tensor | None = None
) -> Tensor:
    """Normalise columns, then rows, `iterations` times (App. B); logarithms, [B, K].

    Every image ends with a total of 1, and the prototypes share the images about equally. Columns
    run over the images of all ranks.
    """
    images = len(logits_BK)
    if queue_QK is not None:
        # Every rank holds the whole queue; its share enters the column sums once.
        part = (distributed.rank(), distributed.ranks())
        logits_BK = torch.cat([logits_BK, distributed.share(queue_QK, part)])
    logs_NK = logits_BK / temperature
    for _ in range(iterations):
        logs_NK = logs_NK - distributed.logsumexp(logs_NK)
        logs_NK = logs_NK - logs_NK.logsumexp(dim=1, keepdim=True)
    return logs_NK[:images]


def one_hot_logs(index: Tensor, outputs: int) -> Tensor:
    """Logarithms of one-hot targets; log 0 is the smallest normal number's, so that 0 log 0 = 0."""
    return one_hot(index, outputs).float().clamp(min=TINY).log()
