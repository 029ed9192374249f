"""Cross-entropy over all pairs of different views (Sec. 3.1, Eq. 3).

Shapes: G global views, V views of the student (the first G are the global ones), B images,
K prototypes.

Equation 3 is a sum over pairs; the authors' code, followed here, takes their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pair_count(globals_: int, views: int) -> int:
    """Pairs of a teacher view and a different student view."""
    return globals_ * (views - 1)


def pairwise_cross_entropy(targets_GBK: Tensor, log_student_VBK: Tensor) -> Tensor:
    """Mean over images and pairs (g, v), g != v, of -sum_k targets log student. Scalar.

    One matrix product of [G, BK] with [BK, V] gives every pair at once; the diagonal is left out.
    """
    g, b, _ = targets_GBK.shape
    v = log_student_VBK.shape[0]
    inner_GV = targets_GBK.reshape(g, -1) @ log_student_VBK.reshape(v, -1).T
    different = inner_GV.sum() - inner_GV.diagonal().sum()
    return -different / (b * pair_count(g, v))


def log_student(student_VBK: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of the student, [V, B, K]."""
    return torch.log_softmax(student_VBK / temperature, dim=-1)
