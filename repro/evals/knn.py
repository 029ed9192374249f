"""Weighted k-NN classification (Sec. 4.1, App. F.1).

Features are l2-normalised; each of the k nearest train images votes for its class with weight
exp(similarity / 0.07). One pass: the authors' code repeats the similarities for every k.

Shapes: N train images, M test images, D feature width, C classes, k neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from repro import distributed
from repro.config.schema import EvalConfig
from repro.data.dataset import Dataset
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.evals.features.files import frozen_features
from repro.evals.features.layers import Layers, extract_features, pixel_features
from repro.evals.features.neighbours import nearest
from repro.evals.judged import Keep, forget

NEIGHBOURS = (10, 20, 100, 200)  # App. F.1
CHUNK = 1024  # test images whose votes are counted at a time


def knn_accuracy(
    train_ND: Tensor,
    train_labels_N: Tensor,
    test_MD: Tensor,
    test_labels_M: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    kernels: Kernels = REFERENCE,
) -> float:
    """Top-1 accuracy in percent.

    With fewer than k train images, all of them vote.
    """
    data = train_ND, train_labels_N, test_MD, test_labels_M
    return knn_accuracies(*data, [k], temperature, kernels)[k]


def knn_accuracies(
    train_ND: Tensor,
    train_labels_N: Tensor,
    test_MD: Tensor,
    test_labels_M: Tensor,
    ks: Sequence[int],
    temperature: float = 0.07,
    kernels: Kernels = REFERENCE,
) -> dict[int, float]:
    """Top-1 accuracy in percent by k, from one pass over the similarities."""
    data = train_ND, train_labels_N, test_MD, test_labels_M
    right = knn_answers(*data, ks, temperature, kernels)
    return {k: 100 * int(right_M.sum()) / len(test_MD) for k, right_M in right.items()}


@torch.no_grad()
def knn_answers(
    train_ND: Tensor,
    train_labels_N: Tensor,
    test_MD: Tensor,
    test_labels_M: Tensor,
    ks: Sequence[int],
    temperature: float = 0.07,
    kernels: Kernels = REFERENCE,
) -> dict[int, Tensor]:
    """By k whether each test image is named right, [M].

    Equal votes go to the class with the lower number.

    Raises:
        UserError: features that are not finite.
    """
    similarity_Mk, neighbour_Mk = nearest(test_MD, train_ND, max(ks), kernels)
    # Relative to the nearest, whose similarity is the largest: exp(1 / 0.01) is infinite in fp32.
    weight_Mk = ((similarity_Mk - similarity_Mk[:, :1]) / temperature).exp()
    vote_Mk = train_labels_N.to(test_MD.device)[neighbour_Mk]
    classes = int(max(train_labels_N.max(), test_labels_M.max())) + 1
    truth_M, width = test_labels_M.to(test_MD.device), vote_Mk.shape[1]
    right: dict[int, list[Tensor]] = {min(k, width): [] for k in ks}
    for start in range(0, len(test_MD), CHUNK):
        rows = slice(start, start + CHUNK)
        votes_MC = weight_Mk.new_zeros(len(truth_M[rows]), classes)
        # A neighbour at a time: a GPU would add them in an order that changes, and votes with it.
        for k in range(1, width + 1):
            votes_MC.scatter_add_(1, vote_Mk[rows, k - 1 : k], weight_Mk[rows, k - 1 : k])
            if k in right:
                right[k].append(votes_MC.argmax(dim=1) == truth_M[rows])
    return {k: torch.cat(right[min(k, width)]) for k in ks}


def network_knn(
    backbone: nn.Module,
    dataset: Dataset,
    settings: EvalConfig,
    device: torch.device,
    kernels: Kernels = REFERENCE,
) -> tuple[float, Tensor]:
    """Top-1 accuracy in percent of a backbone's features, and those of the test images, [M, D];
    of several ranks only the first has these.
    """
    train_ND, test_MD = (
        extract_features(backbone, split, settings.batch_size, device)
        for split in (dataset.train, dataset.test)
    )
    return _accuracy(train_ND, test_MD.to(device), dataset, settings, kernels), test_MD


def knn_in_training(
    teacher: nn.Module,
    student: nn.Module,
    dataset: Dataset | None,
    settings: EvalConfig,
    device: torch.device,
    kernels: Kernels,
    floors: bool,
) -> tuple[dict[str, float | None], Tensor | None]:
    """Of both backbones, and the teacher's test features; None where no image has a class.

    Args:
        floors: before the first step: also of raw pixels and of the initial weights.
    """
    if dataset is None:
        floors_too = ("knn_pixels", "knn_random") if floors else ()
        return dict.fromkeys(("knn", "student_knn", *floors_too)), None
    accuracy, test_MD = network_knn(teacher, dataset, settings, device, kernels)
    measured: dict[str, float | None] = {"knn": accuracy}
    if floors:
        # Teacher and student are still the same random network.
        measured |= {"student_knn": accuracy, "knn_pixels": pixel_knn(dataset, settings, device)}
        measured |= {"knn_random": accuracy}
    else:
        measured["student_knn"], _ = network_knn(student, dataset, settings, device, kernels)
    return measured, test_MD


def knn_protocol(
    backbone: nn.Module,
    dataset: Dataset,
    settings: EvalConfig,
    device: torch.device,
    kernels: Kernels = REFERENCE,
    cache: Path | None = None,
    keep: Keep = forget,
) -> tuple[dict[str, float], Tensor]:
    """{"knn_10": percent, ...} for the numbers of neighbours among which the paper chose 20, and
    whether each test image is named right with as many as the settings say, [M].

    Args:
        cache: where the features are kept.
        keep: takes which test images are named right, by number.
    """
    splits = dataset.train, dataset.test
    train_ND, test_MD = (frozen_features(backbone, s, Layers(), device, cache) for s in splits)
    labels_N, labels_M = dataset.train.labels_N, dataset.test.labels_N
    data = train_ND, labels_N, test_MD.to(device), labels_M
    ks = (*NEIGHBOURS, settings.knn_k)
    right = knn_answers(*data, ks, settings.knn_temp, kernels)
    for k in NEIGHBOURS:
        keep(f"knn_{k}", right[k])
    shares = {f"knn_{k}": 100 * int(right[k].sum()) / len(labels_M) for k in NEIGHBOURS}
    return shares, right[settings.knn_k]


def pixel_knn(dataset: Dataset, settings: EvalConfig, device: torch.device) -> float:
    """The same of raw pixels: what a network has to beat."""
    train_ND, test_MD = (
        pixel_features(split, settings.batch_size) for split in (dataset.train, dataset.test)
    )
    return _accuracy(train_ND, test_MD.to(device), dataset, settings, REFERENCE)


def _accuracy(
    train_ND: Tensor, test_MD: Tensor, data: Dataset, settings: EvalConfig, kernels: Kernels
) -> float:
    """Of several ranks the first has the features, and tells the others."""
    if distributed.rank() > 0:
        return distributed.of_first(math.nan)
    labels = data.train.labels_N, data.test.labels_N
    k, temperature = settings.knn_k, settings.knn_temp
    accuracy = knn_accuracy(train_ND, labels[0], test_MD, labels[1], k, temperature, kernels)
    return distributed.of_first(accuracy)
