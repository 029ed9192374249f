"""Finetuning learns, is the same twice, and leaves the backbone as it was."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from repro.config.schema import DataConfig, DataKind, Resources
from repro.data.datasets import open_dataset
from repro.dino.backbones import build_backbone
from repro.dino.vit import DinoViT
from repro.evals.finetune import SMALL_START, FinetuneResult, FinetuneSettings, classifier, finetune
from tests.conftest import MakeConfig

CPU = torch.device("cpu")


@pytest.fixture
def backbone(smoke: MakeConfig) -> torch.nn.Module:
    config = smoke()
    torch.manual_seed(0)
    return build_backbone(config.model, config.views.global_size).eval()


@pytest.mark.slow
def test_it_learns_photographs_is_the_same_twice_and_changes_a_copy_only(
    backbone: torch.nn.Module, smoke: MakeConfig
) -> None:
    data = open_dataset(smoke({"data.train_tiles": 16, "data.test_tiles": 8}).data, "")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    settings = FinetuneSettings(epochs=4, batch_size=32, lr=2e-2, resolution=32)
    lines: list[str] = []
    first = finetune(backbone, data, settings, CPU, lines.append)
    assert float(first.accuracy_E.max()) > 2 * 100 / 16
    assert len(lines) == 4
    again = finetune(backbone, data, settings, CPU, lines.append)
    assert torch.equal(first.accuracy_E, again.accuracy_E)
    after = backbone.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not backbone.training


def test_the_classifier_starts_close_to_zero_and_the_copy_drops_paths(
    backbone: torch.nn.Module,
) -> None:
    body, head = classifier(backbone, 7)
    assert isinstance(body, DinoViT)
    assert body.drop_rates == [0.0, 0.1]
    assert 0 < float(head.weight.abs().max()) <= 3 * SMALL_START  # type: ignore[operator,union-attr]
    assert all(p.requires_grad for p in body.parameters())


def test_the_tiers_are_the_best_and_the_last_epoch() -> None:
    found = FinetuneResult(torch.tensor([10.0, 30.0, 20.0]))
    assert found.metrics() == {"finetune": 30.0, "finetune_clean": 20.0}


def test_both_kinds_of_images_go_through_a_transform_with_seeds_of_their_own(
    tmp_path: pytest.TempPathFactory,
) -> None:
    import random

    def draw(_: Image.Image) -> torch.Tensor:
        return torch.tensor([[[random.random(), float(torch.rand(1))]]])

    data = open_dataset(DataConfig(kind=DataKind.photographs, resolution=32, train_tiles=2), "")
    batches = [torch.tensor([3, 5]), torch.tensor([3, 5])]
    first, second = data.train.transformed_batches(batches, draw, 0, 0)
    again = next(data.train.transformed_batches(batches, draw, 0, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    (later,) = data.train.transformed_batches(batches[1:], draw, 0, 1)
    assert torch.equal(later, second)
    assert Resources().data_workers == 0
