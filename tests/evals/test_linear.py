"""Linear probes: the authors' features, plain SGD as oracle, scikit-learn at convergence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from repro.cli.parser import main
from repro.config.schema import CodePath, ModelConfig
from repro.data.datasets import open_dataset
from repro.dino.backbones import build_backbone
from repro.dino.fast.kernels import Kernels
from repro.dino.vit import DinoViT
from repro.evals.features.layers import Layers, layer_features
from repro.evals.linear import (
    LinearResult,
    LinearSettings,
    Probes,
    held_out,
    linear_probe,
    settings_for,
)
from repro.harness.runs.store import RunFolder
from tests.conftest import MakeConfig
from tests.evals.weights.test_networks import GOLDEN, authors_files
from tests.fidelity import inputs
from tests.fidelity.make_features import images

CPU = torch.device("cpu")
SMALL = ModelConfig(name="small", dim=64, depth=3, heads=1, patch_size=8, drop_path=0.0)


def blobs(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points around four overlapping centres, [number, 6], and their classes."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(number) % 4
    return centres[labels] + 0.7 * torch.randn(number, 6, generator=random), labels


def test_the_last_blocks_are_those_of_the_authors(tmp_path: Path) -> None:
    from repro.evals.weights.networks import load_weights

    backbone = load_weights(authors_files(tmp_path)["backbone"], heads=inputs.HEADS).backbone
    ours = layer_features(backbone, images(224, 224), Layers(2))
    assert (ours - torch.tensor(GOLDEN["last_two_blocks"])).abs().max() < 1e-5


def test_one_block_is_the_feature_of_knn_and_pooling_adds_the_mean_patch() -> None:
    backbone = build_backbone(SMALL, 32).eval()
    batch = images(32, 32)
    with torch.no_grad():
        cls_BD = backbone(batch)
    assert torch.allclose(layer_features(backbone, batch, Layers()), cls_BD, atol=1e-5)
    both = layer_features(backbone, batch, Layers(1, pooled=True))
    tokens = backbone.forward_features(batch)  # type: ignore[operator]
    assert torch.allclose(both[:, :64], cls_BD, atol=1e-5)
    assert torch.allclose(both[:, 64:], tokens[:, 1:].mean(dim=1), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_fast_path_has_the_features_of_the_last_blocks_of_the_reference(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(SMALL, 32).eval()
    assert isinstance(backbone, DinoViT)
    expected = layer_features(backbone, images(32, 32), Layers(count))
    backbone.kernels = Kernels(CodePath.fast)
    monkeypatch.setattr("repro.evals.features.layers.last_blocks", None)
    features = layer_features(backbone, images(32, 32), Layers(count))
    assert features.shape == expected.shape
    assert (features - expected).abs().max() < 1e-4


def test_probes_side_by_side_are_those_trained_one_after_the_other() -> None:
    features, labels = blobs(64, 1)
    held = torch.arange(64) % 10 == 0
    rates = (0.05, 0.5)
    probes = Probes(rates, 64, 6, 4, seed=3, device=CPU)
    first = probes.weights[0].detach().clone()
    for step in range(20):
        probes.set_rate(1 - step / 20)
        probes.step(features, labels, held)
    for index, (rate, keep) in enumerate(
        [(rate, keep) for keep in (torch.ones(64) > 0, ~held) for rate in rates]
    ):
        weight = first.clone().requires_grad_()
        bias = torch.zeros(4, requires_grad=True)
        optimiser = torch.optim.SGD([weight, bias], momentum=0.9, lr=rate)
        for step in range(20):
            optimiser.param_groups[0]["lr"] = rate * 64 / 256 * (1 - step / 20)
            loss = torch.nn.functional.cross_entropy(features[keep] @ weight.T + bias, labels[keep])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert torch.allclose(probes.weights[index], weight, atol=1e-6), index
        assert torch.allclose(probes.biases[index], bias, atol=1e-6)


@pytest.mark.slow
def test_a_converged_probe_is_logistic_regression() -> None:
    features, labels = blobs(600, 2)
    test, truth = blobs(400, 3)
    probes = Probes((2.0,), 600, 6, 4, seed=0, device=CPU)
    nobody = torch.zeros(600, dtype=torch.bool)
    for _ in range(1500):
        probes.step(features, labels, nobody)
    oracle = LogisticRegression(C=np.inf, max_iter=5000).fit(features.numpy(), labels.numpy())
    predicted = probes.logits(test)[0].argmax(dim=1).numpy()
    assert (predicted == oracle.predict(test.numpy())).mean() > 0.99
    accuracy, _ = probes.accuracies(test, truth)
    assert float(accuracy[0]) == pytest.approx(
        100 * oracle.score(test.numpy(), truth.numpy()), abs=0.6
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 5))
def test_one_in_ten_of_every_class_is_held_out_and_never_the_only_one(
    labels: list[int], seed: int
) -> None:
    labels_N = torch.tensor(labels)
    held_N = held_out(labels_N, seed)
    for label in set(labels):
        number = labels.count(label)
        taken = int(held_N[labels_N == label].sum())
        assert taken == (-(-number // 10) if number > 1 else 0)


def test_the_official_tier_takes_the_best_epoch_and_the_clean_one_never_looks_at_the_test() -> None:
    result = LinearResult(
        rates=(0.1, 0.2),
        official_PE=torch.tensor([[50.0, 70.0, 60.0], [40.0, 41.0, 42.0]]),
        clean_PE=torch.tensor([[80.0, 81.0, 55.0], [30.0, 31.0, 52.0]]),
        held_out_PE=torch.tensor([[99.0, 98.0, 40.0], [10.0, 20.0, 45.0]]),
    )
    assert result.metrics() == {
        "linear": 70.0, "linear_clean": 52.0, "linear_clean_rate": 0.2,
    }  # fmt: skip


def test_the_paper_takes_four_blocks_of_a_small_and_the_mean_patch_of_a_base_model() -> None:
    small, base = settings_for(384, 224, 0), settings_for(768, 224, 0, epochs=5)
    assert (small.layers, small.epochs) == (Layers(4), 100)
    assert (base.layers, base.epochs) == (Layers(1, pooled=True), 5)


def test_a_probe_learns_photographs_and_is_the_same_twice(smoke: MakeConfig) -> None:
    config = smoke({"data.train_tiles": 16})
    dataset = open_dataset(config.data, "")
    torch.manual_seed(0)
    backbone = build_backbone(config.model, config.views.global_size).eval()
    settings = LinearSettings(Layers(2), 6, rates=(0.1, 1.0), resolution=config.data.resolution)
    lines: list[str] = []
    first = linear_probe(backbone, dataset, settings, CPU, lines.append)
    assert first.official > 15  # sixteen classes
    assert first.official_PE.shape == (2, 6)
    assert len(lines) == 6
    again = linear_probe(backbone, dataset, settings, CPU, lines.append)
    assert torch.equal(first.official_PE, again.official_PE)
    assert first.metrics() == again.metrics()


def test_a_run_gets_its_linear_column_on_request(
    trained: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    from repro.harness.evaluation.stage import missing
    from repro.harness.runs.records import evaluations_of, record, with_evaluations

    assert missing(trained) == []  # nobody is made to wait for it
    assert main(["eval", "linear", "--weights", str(trained.path), "--epochs", "2"]) == 0
    assert "linear_clean_rate" in capsys.readouterr().out
    metrics = with_evaluations(record(trained), evaluations_of(trained)).metrics
    assert {"linear", "linear_clean", "linear_clean_rate", "knn_20"} <= metrics.keys()
    saved = json.loads((trained.path / "evaluations" / "linear.json").read_text())
    assert saved["metrics"]["linear"] == metrics["linear"]
