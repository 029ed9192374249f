"""Under which names features are kept: other features never lie under the same one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from repro.config.schema import CodePath, ModelConfig
from repro.data.datasets import open_dataset
from repro.dino.backbones import build_backbone
from repro.dino.fast.kernels import Kernels
from repro.evals.features import files
from repro.evals.features.files import frozen_features
from repro.evals.features.layers import Layers
from repro.evals.weights.preprocessing import Preprocessing, take_imagenet_s
from tests.conftest import MakeConfig

CPU = torch.device("cpu")


def a_vit(heads: int, path: CodePath = CodePath.reference) -> nn.Module:
    """The same weights for any number of heads."""
    torch.manual_seed(0)
    model = ModelConfig(dim=32, depth=1, heads=heads, patch_size=8, drop_path=0.0)
    return build_backbone(model, 32, kernels=Kernels(path)).eval()


def test_features_are_kept_under_all_that_makes_them(
    smoke: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = open_dataset(smoke({"data.train_tiles": 1, "data.test_tiles": 1}).data, "").test
    other = open_dataset(smoke({"data.train_tiles": 1, "data.test_tiles": 2}).data, "").test

    def kept() -> int:
        return len(list(tmp_path.glob("*.npy")))

    halves = Preprocessing(32, 32, mean=(0.5,) * 3, std=(0.5,) * 3)
    choices = [
        (a_vit(2), split, Layers()),
        (a_vit(4), split, Layers()),  # which no tensor tells
        (a_vit(2, CodePath.fast), split, Layers()),
        (take_imagenet_s(a_vit(2), halves), split, Layers()),
        (a_vit(2), other, Layers()),
        (a_vit(2), split, Layers(1, pooled=True)),
    ]
    for count, (backbone, images, layers) in enumerate(choices, 1):
        found = frozen_features(backbone, images, layers, CPU, tmp_path)
        assert torch.equal(found, frozen_features(backbone, images, layers, CPU)), count
        assert kept() == count
    backbone, images, layers = choices[0]
    frozen_features(backbone, images, layers, CPU, tmp_path)  # the same again
    assert kept() == len(choices)
    monkeypatch.setattr(files, "_code", lambda: "changed")
    frozen_features(backbone, images, layers, CPU, tmp_path)
    assert kept() == len(choices) + 1
