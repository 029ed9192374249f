"""Weighted k-NN classification (Sec. 4.1, App. F.1).

Features are l2-normalised; each of the k nearest train images votes for its class with weight
exp(similarity / 0.07). One pass: the authors' code repeats the similarities for every k.

Shapes: N train images, M test images, D feature width, C classes, k neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from repro.config import EvalConfig
from repro.data.datasets import Dataset
from repro.dino.kernels import REFERENCE, Kernels
from repro.evals.features import extract_features, pixel_features

CHUNK = 1024  # test images at a time, which bounds the similarity matrix


@torch.no_grad()
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
    train_ND, test_MD = normalize(train_ND, dim=1), normalize(test_MD, dim=1)
    train_labels_N = train_labels_N.to(train_ND.device)
    classes = int(max(train_labels_N.max(), test_labels_M.max())) + 1
    k = min(k, len(train_ND))
    correct = 0
    chunks = zip(torch.split(test_MD, CHUNK), torch.split(test_labels_M, CHUNK), strict=True)
    for chunk_MD, labels_M in chunks:
        similarity_Mk, neighbour_Mk = kernels.linear(chunk_MD, train_ND, None).topk(k, dim=1)
        votes_MC = chunk_MD.new_zeros(len(chunk_MD), classes)
        votes_MC.scatter_add_(1, train_labels_N[neighbour_Mk], (similarity_Mk / temperature).exp())
        correct += int((votes_MC.argmax(dim=1).cpu() == labels_M).sum())
    return 100 * correct / len(test_MD)


def network_knn(
    backbone: nn.Module,
    dataset: Dataset,
    settings: EvalConfig,
    device: torch.device,
    kernels: Kernels = REFERENCE,
) -> float:
    """Top-1 accuracy in percent of a backbone's features."""
    size = settings.batch_size
    train_ND = extract_features(backbone, dataset.train, size, device)
    test_MD = extract_features(backbone, dataset.test, size, device)
    return _accuracy(train_ND, test_MD, dataset, settings, kernels)


def pixel_knn(dataset: Dataset, settings: EvalConfig) -> float:
    """The same of raw pixels: what a network has to beat."""
    train_ND, test_MD = (
        pixel_features(split, settings.batch_size) for split in (dataset.train, dataset.test)
    )
    return _accuracy(train_ND, test_MD, dataset, settings, REFERENCE)


def _accuracy(
    train_ND: Tensor, test_MD: Tensor, data: Dataset, settings: EvalConfig, kernels: Kernels
) -> float:
    labels = data.train.labels_N, data.test.labels_N
    k, temperature = settings.knn_k, settings.knn_temp
    return knn_accuracy(train_ND, labels[0], test_MD, labels[1], k, temperature, kernels)
