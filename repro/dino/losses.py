"""Losses over all pairs of a teacher view and a different student view (Sec. 3.1, Eq. 3; Table 14).

Cross-entropy between distributions (DINO, SwAV), squared distance of unit vectors (BYOL), and the
contrastive InfoNCE (MoCo-v2) and NT-Xent (SimCLR).

Shapes: G global views, V views of the student (the first G are the global ones), B images of this
rank, N images of all ranks, K outputs, Q negatives of a queue.

Equation 3 is a sum over pairs; the authors' code, followed here, takes their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro import distributed


def pair_count(globals_: int, views: int) -> int:
    """Pairs of a teacher view and a different student view."""
    return globals_ * (views - 1)


def pairwise_cross_entropy(targets_GBK: Tensor, log_student_VBK: Tensor) -> Tensor:
    """Mean over images and pairs (g, v), g != v, of -sum_k targets log student. Scalar.

    Pair by pair, as the authors' code does it; `fast/loss.py` computes the same faster.
    """
    pairs = [(g, v) for g in range(len(targets_GBK)) for v in range(len(log_student_VBK)) if g != v]
    terms = [-(targets_GBK[g] * log_student_VBK[v]).sum(dim=-1).mean() for g, v in pairs]
    return torch.stack(terms).mean()


def log_student(student_VBK: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of the student, [V, B, K]."""
    return torch.log_softmax(student_VBK / temperature, dim=-1)


def pairwise_squared_distance(targets_GBK: Tensor, student_VBK: Tensor) -> Tensor:
    """Mean over images and pairs of |t - s|^2 = 2 - 2 cos(t, s), for unit vectors. Scalar."""
    g, b, _ = targets_GBK.shape
    v = student_VBK.shape[0]
    cosines_GV = targets_GBK.reshape(g, -1) @ student_VBK.reshape(v, -1).T
    return 2 - 2 * _different(cosines_GV) / (b * pair_count(g, v))


def info_nce(
    targets_GBK: Tensor, student_VBK: Tensor, temperature: float, queue_QK: Tensor | None
) -> Tensor:
    """Cross-entropy of picking the teacher's output of the same image among negatives. Scalar.

    Negatives are the queue, or without one the teacher's outputs of the batch's other images in the
    same view (over all ranks). All are unit vectors; the mean is over images and pairs.
    """
    g, b, _ = targets_GBK.shape
    v = student_VBK.shape[0]
    positive_GVB = torch.einsum("gbk,vbk->gvb", targets_GBK, student_VBK) / temperature
    if queue_QK is not None:
        negative_VBQ = student_VBK @ queue_QK.T / temperature
        all_GVB = torch.logaddexp(positive_GVB, negative_VBQ.logsumexp(dim=-1))
    else:
        keys_GNK = distributed.gather(targets_GBK, dim=1)
        all_GVB = (
            torch.einsum("vbk,gnk->gvbn", student_VBK, keys_GNK).div(temperature).logsumexp(-1)
        )
    return _different((all_GVB - positive_GVB).sum(dim=-1)) / (b * pair_count(g, v))


def nt_xent(student_VBK: Tensor, globals_: int, temperature: float) -> Tensor:
    """SimCLR's loss: find an image's other view among all views of all other images. Scalar.

    Every view is asked for each global view of the same image. With two views of an image this is
    the published loss; further views of the same image are no negatives.
    """
    v, b, k = student_VBK.shape
    everyone_VNK = distributed.gather_with_gradient(student_VBK, dim=1)
    n = everyone_VNK.shape[1]
    similarity_VBUN = (
        student_VBK.reshape(-1, k) @ everyone_VNK.reshape(-1, k).T / temperature
    ).view(v, b, v, n)
    own = torch.arange(b, device=student_VBK.device)
    column = own + distributed.rank() * b
    positive_GVB = similarity_VBUN[:, own, :globals_, column].permute(2, 1, 0)
    same_image = torch.zeros(1, b, 1, n, dtype=torch.bool, device=student_VBK.device)
    same_image[0, own, 0, column] = True
    negative_VB = similarity_VBUN.masked_fill(same_image, -torch.inf).flatten(2).logsumexp(dim=-1)
    all_GVB = torch.logaddexp(positive_GVB, negative_VB.expand_as(positive_GVB))
    return _different((all_GVB - positive_GVB).sum(dim=-1)) / (b * pair_count(globals_, v))


def _different(pairs_GV: Tensor) -> Tensor:
    """The sum over pairs of different views."""
    return pairs_GV.sum() - pairs_GV.diagonal().sum()
