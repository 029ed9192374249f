"""Weighted k-NN against a brute-force loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.evals import knn
from repro.evals.features.layers import extract_features, pixel_features
from repro.evals.knn import knn_accuracies, knn_accuracy, knn_answers


def brute_force(
    train: torch.Tensor, labels: list[int], test: torch.Tensor, truth: list[int], k: int, t: float
) -> float:
    """One image and one neighbour at a time, in plain Python."""
    correct = 0
    for query, label in zip(test.tolist(), truth, strict=True):
        norm = math.sqrt(sum(x * x for x in query))
        similarities = []
        for image, image_label in zip(train.tolist(), labels, strict=True):
            size = math.sqrt(sum(x * x for x in image))
            dot = sum(a * b for a, b in zip(query, image, strict=True))
            similarities.append((dot / norm / size, image_label))
        votes: dict[int, float] = {}
        for similarity, neighbour in sorted(similarities, reverse=True)[:k]:
            votes[neighbour] = votes.get(neighbour, 0.0) + math.exp(similarity / t)
        correct += max(votes, key=lambda c: votes[c]) == label
    return 100 * correct / len(test)


@given(
    n=st.integers(1, 40), m=st.integers(1, 20), d=st.integers(2, 8), classes=st.integers(1, 5),
    k=st.integers(1, 25), seed=st.integers(0, 10_000),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_knn_equals_a_brute_force_loop(
    n: int, m: int, d: int, classes: int, k: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    train = torch.randn(n, d, generator=random, dtype=torch.float64)
    test = torch.randn(m, d, generator=random, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=random)
    truth = torch.randint(classes, (m,), generator=random)
    expected = brute_force(train, labels.tolist(), test, truth.tolist(), k, 0.07)
    assert knn_accuracy(train, labels, test, truth, k, 0.07) == pytest.approx(expected)


def test_answers_are_those_behind_the_accuracies() -> None:
    random = torch.Generator().manual_seed(0)
    train, test = torch.randn(50, 6, generator=random), torch.randn(33, 6, generator=random)
    labels, truth = torch.arange(50) % 4, torch.arange(33) % 4
    by_k = knn_answers(train, labels, test, truth, (1, 5, 90))
    for k, right_M in by_k.items():
        alone = [
            knn_accuracy(train, labels, test[i : i + 1], truth[i : i + 1], k) for i in range(33)
        ]
        assert [100 * int(right) for right in right_M] == alone


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    train, test = torch.randn(50, 6, generator=random), torch.randn(33, 6, generator=random)
    labels, truth = torch.arange(50) % 4, torch.arange(33) % 4
    whole = knn_accuracy(train, labels, test, truth)
    monkeypatch.setattr(knn, "CHUNK", 7)
    assert knn_accuracy(train, labels, test, truth) == whole


def test_closer_neighbours_outvote_more_numerous_ones() -> None:
    # One neighbour at similarity 1 against three at 0.5: e^(1/0.07) > 3 e^(0.5/0.07).
    far = [0.5, math.sqrt(0.75)]
    train = torch.tensor([[1.0, 0.0], far, far, far])
    labels, query = torch.tensor([0, 1, 1, 1]), torch.tensor([[2.0, 0.0]])
    assert knn_accuracy(train, labels, query, torch.tensor([0]), k=4, temperature=0.07) == 100
    assert knn_accuracy(train, labels, query, torch.tensor([1]), k=4, temperature=10.0) == 100


def test_features_are_taken_in_evaluation_mode_and_the_mode_is_restored() -> None:
    from repro.config.schema import DataConfig, DataKind
    from repro.data.datasets import open_dataset

    config = DataConfig(kind=DataKind.photographs, resolution=32, train_tiles=1, test_tiles=1)
    split = open_dataset(config, "").test
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))
    first = extract_features(backbone, split, 5, torch.device("cpu"))
    assert torch.equal(first, extract_features(backbone, split, 16, torch.device("cpu")))
    assert backbone.training
    assert first.shape == (16, 3 * 32 * 32)
    assert torch.equal(first, pixel_features(split, 7))


@pytest.mark.parametrize("temperature", [0.07, 0.02, 0.012, 0.01, 0.005, 0.001])
def test_cold_votes_are_those_of_float64(temperature: float) -> None:
    """Cosines near 1, as trained networks have: exp(1 / 0.011) is infinite in float32."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 64, generator=random)
    labels, truth = (torch.arange(10).repeat_interleave(n) for n in (30, 20))
    train, test = (
        centres[one] + 2.5 * torch.randn(len(one), 64, generator=random) + 3.0
        for one in (labels, truth)
    )
    data = labels, test, truth
    ours = knn_accuracies(train, *data, [20, 200], temperature)
    unit_ND, unit_MD = (torch.nn.functional.normalize(x.double(), dim=1) for x in (train, test))
    for k, accuracy in ours.items():
        near = (unit_MD @ unit_ND.T).topk(k, dim=1)
        weight_Mk = ((near.values - near.values[:, :1]) / temperature).exp()
        votes_MC = torch.zeros(len(test), 10, dtype=torch.float64)
        votes_MC.scatter_add_(1, labels[near.indices], weight_Mk)
        assert accuracy == 100 * float((votes_MC.argmax(dim=1) == truth).double().mean())
    assert 50 < ours[200] < 100
