"""Several choices of layers probed side by side (App. F.2): as if each were probed alone."""

from __future__ import annotations

import pytest
import torch

from repro.cli.parser import main
from repro.config.schema import Family, ModelConfig
from repro.data.datasets import open_dataset
from repro.dino.backbones import build_backbone
from repro.evals.features.layers import Layers, layer_features
from repro.evals.linear import LinearSettings, columns_of, linear_probe, linear_probes
from repro.harness.runs.store import RunFolder
from tests.conftest import MakeConfig
from tests.fidelity.make_features import images

CPU = torch.device("cpu")
SMALL = ModelConfig(name="small", dim=64, depth=3, heads=1, patch_size=8, drop_path=0.0)
CHOICES = [Layers(1), Layers(2), Layers(3), Layers(1, pooled=True)]


@pytest.mark.parametrize("choice", [*CHOICES, Layers(6)])
def test_the_columns_of_a_choice_are_its_own_features(choice: Layers) -> None:
    torch.manual_seed(0)
    backbone, batch, widest = build_backbone(SMALL, 32).eval(), images(32, 32), Layers(6, True)
    features = layer_features(backbone, batch, widest)
    columns = columns_of(choice, widest, backbone, features.shape[1])
    expected = layer_features(backbone, batch, choice)
    torch.testing.assert_close(features[:, columns], expected, rtol=1e-4, atol=1e-5)


def test_a_resnet_has_one_choice() -> None:
    resnet = build_backbone(ModelConfig(family=Family.timm, name="resnet18"), 32)
    assert columns_of(Layers(4), Layers(4), resnet, 512).tolist() == list(range(512))


def test_probes_side_by_side_are_those_of_each_choice_alone(smoke: MakeConfig) -> None:
    data = open_dataset(smoke({"data.train_tiles": 8}).data, "")
    torch.manual_seed(0)
    backbone = build_backbone(SMALL, 32).eval()
    settings = LinearSettings(epochs=2, rates=(0.1, 1.0), resolution=32)
    together = linear_probes(backbone, data, settings, CHOICES, CPU, say=lambda _: None)
    for choice, found in zip(CHOICES, together, strict=True):
        own = LinearSettings(choice, epochs=2, rates=(0.1, 1.0), resolution=32)
        alone = linear_probe(backbone, data, own, CPU, say=lambda _: None)
        assert (found.official_PE - alone.official_PE).abs().max() <= 100 / 64  # an image of 64
        assert found.rates == alone.rates


def test_a_run_gets_the_numbers_of_the_blocks_that_it_has(trained: RunFolder) -> None:
    for protocol in ("blocks", "pooling"):
        assert main(["eval", protocol, "--weights", str(trained.path), "--epochs", "1"]) == 0
    found = trained.evaluations()
    assert set(found["blocks"].metrics) == {  # two blocks
        "linear_l1", "linear_l2", "linear_l1_clean", "linear_l2_clean",
    }  # fmt: skip
    assert set(found["pooling"].metrics) == {
        "linear_cls", "linear_cls_avg", "linear_cls_clean", "linear_cls_avg_clean",
    }  # fmt: skip
    request = found["blocks"].request
    assert request is not None
    assert request.settings == {"linear_epochs": 1}
