"""A method is a choice of parts: teacher, target, loss, predictor, queue (Tables 7, 13, 14, 15).

| method     | teacher      | target                     | loss          | predictor | queue     |
| ---------- | ------------ | -------------------------- | ------------- | --------- | --------- |
| DINO       | momentum     | softmax of centred outputs | cross-entropy | -         | -         |
| SwAV       | student copy | Sinkhorn-Knopp             | cross-entropy | -         | optional  |
| BYOL       | momentum     | unit vectors               | MSE           | yes       | -         |
| MoCo-v2    | momentum     | unit vectors               | InfoNCE       | -         | negatives |
| SimCLR     | -            | -                          | NT-Xent       | -         | -         |
| supervised | -            | labels                     | cross-entropy | -         | -         |

`experiments/base/method/` holds these choices, one file each. The teacher is chosen in
`teachers.py`, the predictor is a part of the head; target, loss and queue come together here.

Shapes: G global views, V student views, B images of this rank, K outputs, P projection width, Q
places of the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from repro.config.schema import CodePath, LossKind, Operation, RunConfig
from repro.dino.diagnostics import output_statistics, spread
from repro.dino.fast.loss import fused_cross_entropy
from repro.dino.heads import DinoHead
from repro.dino.losses import (
    info_nce,
    log_student,
    nt_xent,
    pairwise_cross_entropy,
    pairwise_squared_distance,
)
from repro.dino.queues import Queue
from repro.dino.targets import Centre, log_probabilities, one_hot_logs


@dataclass(frozen=True)
class Targets:
    """Probabilities with their logarithms, or unit vectors without."""

    values_GBK: Tensor
    logs_GBK: Tensor | None

    def images(self, rows: slice) -> Targets:
        logs = None if self.logs_GBK is None else self.logs_GBK[:, rows]
        return Targets(self.values_GBK[:, rows], logs)


class Method(nn.Module):
    """Target and loss of one run, with what they remember: the centre and the queue."""

    def __init__(self, config: RunConfig, head: DinoHead, outputs: int) -> None:
        super().__init__()
        self.target, self.settings = config.target, config.loss
        self.fast = config.resources.path is CodePath.fast
        self.centre = Centre(outputs, config.target)
        self.queue = None
        if config.queue.used:
            self.queue = Queue(config.queue.size, outputs if self.vectors else head.projection_dim)

    @property
    def vectors(self) -> bool:
        """Whether outputs are compared as unit vectors, not as distributions."""
        return self.settings.kind is not LossKind.cross_entropy

    @torch.no_grad()
    def targets(
        self, teacher_GBK: Tensor, labels_B: Tensor, temperature: float, head: DinoHead
    ) -> Targets:
        """What the student is to predict for each global view of each image."""
        if self.target.operation is Operation.labels:
            logs_BK = one_hot_logs(labels_B, teacher_GBK.shape[-1])
            logs_GBK = logs_BK.expand(len(teacher_GBK), -1, -1)
            return Targets(logs_GBK.exp(), logs_GBK)
        centred_GBK = self.centre.subtract(teacher_GBK)
        if self.vectors:
            return Targets(normalize(centred_GBK, dim=-1), None)
        queue_QK = None
        if self.queue is not None and self.queue.full:
            queue_QK = self.centre.subtract(head.classify(self.queue.entries_QP))
        logs_GBK = log_probabilities(self.target, centred_GBK, temperature, queue_QK)
        return Targets(logs_GBK.exp(), logs_GBK)

    def loss(self, student_VBK: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and, in nats or as a spread, what the outputs look like; all scalars.

        Args:
            student_VBK: logits, in bfloat16 where they were computed so.
        """
        values_GBK, temperature = targets.values_GBK, self.settings.student_temp
        if targets.logs_GBK is not None:
            if self.fast:
                return fused_cross_entropy(student_VBK, values_GBK, targets.logs_GBK, temperature)
            log_student_VBK = log_student(student_VBK.float(), temperature)
            loss = pairwise_cross_entropy(values_GBK, log_student_VBK)
            return loss, output_statistics(values_GBK, targets.logs_GBK, log_student_VBK.detach())
        student_VBK = student_VBK.float()
        unit_VBK = normalize(student_VBK, dim=-1)
        statistics = {"output_spread": spread(unit_VBK[: len(values_GBK)].flatten(0, 1).detach())}
        if self.settings.kind is LossKind.mse:
            return pairwise_squared_distance(values_GBK, unit_VBK), statistics
        if self.settings.kind is LossKind.nt_xent:
            return nt_xent(unit_VBK, len(values_GBK), temperature), statistics
        queue_QK = None if self.queue is None else self.queue.entries_QP
        return info_nce(values_GBK, unit_VBK, temperature, queue_QK), statistics

    def update(self, centre_K: Tensor, projections_GBP: Tensor, targets: Targets) -> None:
        """After the student's step: move the centre, and let the outputs join the queue.

        Args:
            centre_K: `centre.moved` by the teacher's outputs.
        """
        self.centre.centre_K.copy_(centre_K)
        if self.queue is not None:
            self.queue.push(targets.values_GBK if self.vectors else projections_GBP)
