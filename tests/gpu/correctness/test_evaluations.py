"""Frozen networks judged on a GPU, each number against the CPU's from the same weights.

Shapes: N database vectors or train images, M queries or test images, D feature width.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from repro.config.schema import ModelConfig
from repro.data.copies import Copies, make_copies
from repro.data.dataset import Dataset
from repro.data.landmarks import Landmarks, make_landmarks
from repro.data.scenes import CompositeScenes
from repro.data.videos import MadeClips
from repro.dino.backbones import build_backbone
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.dino.vit import DinoViT
from repro.evals.attention import attention_maps, jaccard_protocol, keep_mass
from repro.evals.copy_detection import copy_protocol
from repro.evals.features.files import frozen_features
from repro.evals.features.layers import Layers, extract_features
from repro.evals.features.neighbours import nearest
from repro.evals.finetune import FinetuneSettings, finetune
from repro.evals.knn import knn_accuracies
from repro.evals.linear import LinearSettings, linear_probe
from repro.evals.logistic import logistic_accuracies
from repro.evals.retrieval import THREE_SCALES, Setting, retrieval_protocol
from repro.evals.video import Context, propagate, video_protocol
from tests.gpu.correctness.conftest import Figures, far

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def backbone(device: torch.device, kernels: Kernels = REFERENCE) -> DinoViT:
    torch.manual_seed(0)
    config = ModelConfig(dim=64, depth=2, heads=2, patch_size=8, drop_path=0.0)
    made = build_backbone(config, 32, kernels=kernels)
    assert isinstance(made, DinoViT)
    return made.to(device).eval()


def apart(ours: dict[str, float], truth: dict[str, float]) -> dict[str, float]:
    assert ours.keys() == truth.keys()
    return {name: abs(ours[name] - value) for name, value in truth.items()}


def test_features_of_one_layer_and_of_several(
    smoke_data: Dataset, device: torch.device, figures: Figures
) -> None:
    split, layers = smoke_data.train, Layers(2, pooled=True)
    truth = {
        "training's": extract_features(backbone(CPU), split, 32, CPU),
        "several layers": frozen_features(backbone(CPU), split, layers, CPU),
    }
    ours = {
        "training's": extract_features(backbone(device), split, 32, device),
        "several layers": frozen_features(backbone(device), split, layers, device),
    }
    figures |= {name: far(ours[name], value) for name, value in truth.items()}
    assert max(figures.values()) < 5e-5


@pytest.mark.parametrize("sizes", [(70_000, 300, 64), (1000, 2100, 384)], ids=str)
def test_the_nearest_neighbours(
    sizes: tuple[int, int, int], device: torch.device, figures: Figures
) -> None:
    n, m, d = sizes
    database_ND, queries_MD = drawn(n, d), drawn(m, d, seed=1)
    similar, places = nearest(queries_MD, database_ND, 20)
    ours, our_places = nearest(queries_MD.to(device), database_ND.to(device), 20)
    figures["similarities"] = far(ours, similar)
    figures["places that differ"] = float((our_places.cpu() != places).float().mean())
    assert figures["similarities"] < 3e-6
    assert figures["places that differ"] < 1e-3  # of equal similarities, but for rounding


def test_knn(device: torch.device, figures: Figures) -> None:
    n, m, classes = 5000, 1000, 20
    centres = 0.25 * drawn(classes, 64, seed=2)
    labels_N, labels_M = torch.arange(n) % classes, torch.arange(m) % classes
    train_ND = centres[labels_N] + drawn(n, 64)
    test_MD = centres[labels_M] + drawn(m, 64, seed=1)
    truth = knn_accuracies(train_ND, labels_N, test_MD, labels_M, [1, 10, 200])
    moved = train_ND.to(device), labels_N, test_MD.to(device), labels_M
    ours = knn_accuracies(*moved, [1, 10, 200])
    figures |= {f"k {k}": abs(ours[k] - truth[k]) for k in truth}
    assert 20 < truth[200] < 99
    assert max(figures.values()) <= 0.2  # two images of a thousand


def test_attention_masks_and_jaccard(device: torch.device, figures: Figures) -> None:
    images = drawn(3, 3, 64, 96)
    maps = [attention_maps(backbone(place), images.to(place)) for place in (CPU, device)]
    figures["maps"] = far(maps[1], maps[0])
    masks = [keep_mass(found).cpu() for found in maps]
    figures["patches of masks that differ"] = float((masks[0] != masks[1]).float().mean())
    scenes = CompositeScenes(side=64, each=2)
    scores = [jaccard_protocol(backbone(p), scenes, 0, p) for p in (CPU, device)]
    figures |= apart(scores[1], scores[0])
    assert figures["maps"] < 1e-4
    assert figures["patches of masks that differ"] < 0.01
    assert figures["jaccard"] < 0.5


def some(landmarks: Landmarks, queries: int) -> Landmarks:
    """The first queries, and the database as far as they know it."""
    truths = landmarks.truths[:queries]
    known = max(place for truth in truths for place in (*truth.easy, *truth.hard, *truth.junk))
    return replace(
        landmarks,
        database=landmarks.database[: known + 1],
        whole_queries=landmarks.whole_queries[:queries],
        query_names=landmarks.query_names[:queries],
        truths=truths,
    )


def test_retrieval(device: torch.device, figures: Figures) -> None:
    landmarks, setting = some(make_landmarks(), 6), Setting(64, THREE_SCALES)
    scores = [retrieval_protocol(backbone(p), landmarks, setting, p) for p in (CPU, device)]
    figures |= apart(scores[1], scores[0])
    assert max(figures.values()) < 0.2


def test_copy_detection(device: torch.device, figures: Figures) -> None:
    made = make_copies()
    copies = Copies(made.queries[:16], made.database[:100], made.whitening[:256], made.matches[:16])
    scores = [copy_protocol(backbone(p), copies, 64, p) for p in (CPU, device)]
    figures |= apart(scores[1], scores[0])
    assert max(figures.values()) < 2.0  # a place more or less for one query


def test_video_propagation(device: torch.device, figures: Figures) -> None:
    grid, patches = (30, 40), 1200
    found = []
    for place in (CPU, device):
        context = [
            Context(
                normalize(drawn(patches, 64, seed=t), dim=1).to(place),
                drawn(patches, 3, seed=10 + t).softmax(dim=1).to(place),
            )
            for t in range(4)
        ]
        features_PD = normalize(drawn(patches, 64, seed=9), dim=1).to(place)
        found.append(propagate(features_PD, context, grid))
    rows_apart = (found[1].cpu() - found[0]).abs().amax(dim=1)
    figures["patches that differ"] = float((rows_apart > 1e-4).float().mean())
    clips = MadeClips(count=2, frames=4, side=64)
    scores = [video_protocol(backbone(p), clips, 0, p)[0] for p in (CPU, device)]
    figures |= apart(scores[1], scores[0])
    assert figures["patches that differ"] < 0.01
    assert max(apart(scores[1], scores[0]).values()) < 2.0


def test_linear_probes_and_logistic_regression(
    smoke_data: Dataset, device: torch.device, figures: Figures
) -> None:
    settings = LinearSettings(Layers(2), 3, rates=(0.1, 1.0), resolution=32)
    probes = [
        linear_probe(backbone(p), smoke_data, settings, p, say=lambda _: None)
        for p in (CPU, device)
    ]
    train, test = smoke_data.train, smoke_data.test
    results = []
    for place in (CPU, device):
        features = [frozen_features(backbone(place), s, Layers(), place) for s in (train, test)]
        results.append(logistic_accuracies(features[0], train.labels_N, features[1], test.labels_N))
    image = 100 / len(test.labels_N)
    figures |= {
        "linear": abs(probes[1].official - probes[0].official),
        "linear, clean": abs(probes[1].clean - probes[0].clean),
        "logistic": abs(results[1].official - results[0].official),
        "one test image": image,
    }
    assert max(figures.values()) <= 2 * image + 1e-6


def test_finetuning_learns(smoke_data: Dataset, device: torch.device, figures: Figures) -> None:
    settings = FinetuneSettings(epochs=2, batch_size=32, lr=4e-3, resolution=32)
    body = backbone(device)
    before = {key: value.clone() for key, value in body.state_dict().items()}
    result = finetune(body, smoke_data, settings, device, say=lambda _: None)
    figures |= result.metrics()
    chance = 100 / len(smoke_data.classes)
    assert chance / 2 < figures["finetune"] <= 100
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())
