"""What is logged at every step to see a collapse coming (Sec. 5.3, Figure 7).

H(Pt, Ps) = h(Pt) + KL(Pt | Ps) over all pairs of different views: the entropy of the targets says
how they look, a KL of zero says that the output no longer depends on the image. Methods whose
outputs are vectors instead of distributions (BYOL, MoCo-v2, SimCLR) have their spread instead.

Shapes: G global views, V student views, B images, K prototypes, D feature width, M samples.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from repro import distributed
from repro.dino.losses import pairwise_cross_entropy

RANK_SAMPLES = 256  # enough for an effective rank, and bounds the cost of its eigenvalues


class OutputSums(NamedTuple):
    """What the statistics of targets and student are made of, summed over views and images."""

    entropy: Tensor
    kl_pairs: Tensor  # of the two pairs of global views, by its definition
    cross_pairs: Tensor  # cross-entropy of the same pairs
    target_K: Tensor

    @classmethod
    def zeros(cls, like_GBK: Tensor) -> OutputSums:
        entropy, kl, cross = like_GBK.new_zeros(3).unbind()
        return cls(entropy, kl, cross, like_GBK.new_zeros(like_GBK.shape[-1]))

    def add(
        self,
        targets_GBK: Tensor,
        log_targets_GBK: Tensor,
        log_student_VBK: Tensor,
        total_BK: Tensor,
    ) -> None:
        """Add some images in place; `total_BK` is the sum of the targets over views."""
        swapped_GBK = log_student_VBK[: len(targets_GBK)].flip(0)
        self.entropy.sub_((targets_GBK * log_targets_GBK).sum())
        self.kl_pairs.add_((targets_GBK * (log_targets_GBK - swapped_GBK)).sum())
        self.cross_pairs.sub_((targets_GBK * swapped_GBK).sum())
        self.target_K.add_(total_BK.sum(dim=0))

    def means(self, count: int) -> OutputSums:
        return OutputSums(*(value / count for value in self))


@torch.no_grad()
def output_statistics(
    targets_GBK: Tensor, log_targets_GBK: Tensor, log_student_VBK: Tensor
) -> dict[str, Tensor]:
    """Entropies, cross-entropy and KL of targets and student, each a scalar in nats."""
    cross_entropy = pairwise_cross_entropy(targets_GBK, log_student_VBK)
    sums = OutputSums.zeros(targets_GBK)
    sums.add(targets_GBK, log_targets_GBK, log_student_VBK, targets_GBK.sum(dim=0))
    return summarise(sums.means(targets_GBK[..., 0].numel()), cross_entropy)


@torch.no_grad()
def summarise(means: OutputSums, cross_entropy: Tensor) -> dict[str, Tensor]:
    """The statistics of a step, each a scalar in nats, from means over views and images.

    `decomposition_error` is |H - (h + KL)| / max(1, H) on the two pairs of global views, with the
    KL computed by its definition rather than as a difference.
    """
    mean_K = distributed.mean(means.target_K)
    error = (means.cross_pairs - (means.entropy + means.kl_pairs)).abs()
    return {
        "entropy": means.entropy,
        "cross_entropy": cross_entropy,
        "kl": cross_entropy - means.entropy,
        "mean_entropy": -torch.xlogy(mean_K, mean_K).sum(),
        "decomposition_error": error / means.cross_pairs.clamp(min=1),
    }


class FeatureStatistics:
    """Spread (see `spread`) and effective rank of backbone features, asked for now, read later.

    `effective_rank`: exponential of the entropy of the normalised singular values of the centred
    features (Roy and Vetterli, 2007). On a GPU eigenvalues of so small a matrix take as long as a
    sixth of a step and make the host wait: there they are found by the host, beside the step.
    """

    @torch.no_grad()
    def __init__(self, features_MD: Tensor) -> None:
        features_MD = features_MD[:RANK_SAMPLES].float()
        self.spread = spread(features_MD)
        centred_MD = features_MD - features_MD.mean(dim=0)
        samples, width = centred_MD.shape
        gram = centred_MD @ centred_MD.T if samples <= width else centred_MD.T @ centred_MD
        # A NaN here must reach the log as a NaN, not stop the run inside LAPACK.
        gram = torch.nan_to_num(gram)
        self.rank: Future[Tensor] | Tensor
        if gram.is_cuda:
            on_host = torch.empty(gram.shape, dtype=gram.dtype, pin_memory=True)
            on_host.copy_(gram, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
            self.rank = _HOST.submit(_rank_when, copied, on_host)
        else:
            self.rank = effective_rank(gram)

    def scalars(self) -> dict[str, Tensor]:
        """Waits for what is not there yet; the effective rank lies on the host."""
        rank = self.rank.result() if isinstance(self.rank, Future) else self.rank
        return {"feature_spread": self.spread, "effective_rank": rank}


def feature_statistics(features_MD: Tensor) -> dict[str, Tensor]:
    """Spread and effective rank of backbone features."""
    return FeatureStatistics(features_MD).scalars()


_HOST = ThreadPoolExecutor(1, "effective rank")


def _rank_when(copied: torch.cuda.Event, gram: Tensor) -> Tensor:
    copied.synchronize()
    return effective_rank(gram)


@torch.no_grad()
def effective_rank(gram: Tensor) -> Tensor:
    """exp of the entropy of the singular values behind a Gram matrix. Scalar."""
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    shares = singular / singular.sum().clamp(min=torch.finfo(singular.dtype).tiny)
    return torch.xlogy(shares, shares).sum().neg().exp()


@torch.no_grad()
def spread(vectors_MD: Tensor) -> Tensor:
    """Standard deviation of l2-normalised vectors: 1 spread evenly, 0 all the same. Scalar."""
    return normalize(vectors_MD.float(), dim=-1).var(dim=0, correction=0).sum().sqrt()


def to_floats(scalars: dict[str, Tensor]) -> dict[str, float]:
    """All scalars; those of a GPU in one transfer, hence one synchronisation with it."""
    on_device = {name: value for name, value in scalars.items() if value.is_cuda}
    stacked = torch.stack([value.double() for value in (on_device or scalars).values()])
    read = dict(zip(on_device or scalars, stacked.tolist(), strict=True))
    return {name: read[name] if name in read else float(scalars[name]) for name in scalars}
