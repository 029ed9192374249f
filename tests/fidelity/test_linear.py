"""Our linear probe trains as the authors' `eval_linear.py` does: losses, accuracies, weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from repro.evals import linear
from repro.evals.linear import LinearSettings, Probes, linear_probe, settings_for
from repro.evals.weights.networks import load_weights
from repro.harness.evaluation.chosen_data import data_config, seen_by
from tests.fidelity import make_linear as made
from tests.pages import PAGES

GOLDEN = json.loads(Path(__file__).with_name("linear.json").read_text())


class Watched(Probes):
    """Begins with the given weights, and notes the losses of the probes on all images."""

    def __init__(self, rates: Any, batch: int, width: int, classes: int, *rest: Any) -> None:
        super().__init__(rates, batch, width, classes, *rest)
        for weight in self.weights:
            weight.data = made.probe_tensor(weight.shape)
        self.train_loss: list[Tensor] = []
        self.test_loss: list[Tensor] = []
        watched.append(self)

    def losses(self, features_BF: Tensor, labels_B: Tensor) -> Tensor:
        logits_PBC = self.logits(features_BF)[: len(made.RATES)].detach()
        return torch.stack([cross_entropy(logits_BC, labels_B) for logits_BC in logits_PBC])

    def step(self, features_BF: Tensor, labels_B: Tensor, held_B: Tensor) -> None:
        self.train_loss.append(self.losses(features_BF, labels_B))
        super().step(features_BF, labels_B, held_B)

    def right(self, features_MF: Tensor, labels_M: Tensor) -> Tensor:
        if len(labels_M) == made.CLASSES * made.TEST:
            self.test_loss.append(self.losses(features_MF, labels_M))
        return super().right(features_MF, labels_M)


watched: list[Watched] = []


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[linear.LinearResult, Watched]:
    folder = tmp_path_factory.mktemp("linear")
    made.write_colours(folder / "images")
    shapes = {name: torch.Size(shape) for name, shape in GOLDEN["shapes"].items()}
    torch.save(made.backbone_tensors(shapes), folder / "backbone.pth")
    weights = load_weights(folder / "backbone.pth")
    config, _ = seen_by(data_config(f"colours={folder / 'images'}"), weights)
    from repro.data.datasets import open_dataset

    data = open_dataset(config.data, config.paths.data)
    paper = settings_for(made.DIM, config.data.resolution, seed=0, epochs=made.EPOCHS)
    settings = LinearSettings(
        paper.layers, made.EPOCHS, made.BATCH, made.RATES, resolution=config.data.resolution
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "Probes", Watched)
        patch.setattr(linear, "epoch_order", lambda _, epoch, images: made.order(epoch, images))
        result = linear_probe(weights.backbone, data, settings, torch.device("cpu"))
    return result, watched.pop()


@pytest.mark.parametrize("place", range(len(made.RATES)))
def test_a_probe_has_the_losses_and_accuracies_of_the_authors_script(
    ours: tuple[linear.LinearResult, Watched], place: int
) -> None:
    result, probes = ours
    log = GOLDEN["runs"][str(made.RATES[place])]["log"]
    steps = len(probes.train_loss) // made.EPOCHS
    for epoch, line in enumerate(log):
        train = torch.stack(probes.train_loss[epoch * steps : (epoch + 1) * steps])[:, place]
        assert float(train.mean()) == pytest.approx(line["train_loss"], abs=5e-5)
        assert float(probes.test_loss[epoch][place]) == pytest.approx(line["test_loss"], abs=5e-5)
        assert float(result.official_PE[place, epoch]) == pytest.approx(line["test_acc1"], abs=1e-4)
    best = max(line["test_acc1"] for line in log)
    assert float(result.official_PE[place].max()) == pytest.approx(best)


@pytest.mark.parametrize("place", range(len(made.RATES)))
def test_a_probe_ends_with_the_weights_of_the_authors_script(
    ours: tuple[linear.LinearResult, Watched], place: int
) -> None:
    _, probes = ours
    theirs = GOLDEN["runs"][str(made.RATES[place])]
    for name, tensor in (("weight", probes.weights[place]), ("bias", probes.biases[place])):
        found = made.inputs.summary(tensor)
        assert found["norm"] == pytest.approx(theirs[name]["norm"], rel=1e-4)
        assert found["entries"] == pytest.approx(theirs[name]["entries"], abs=2e-6)


def test_the_rates_are_told_apart_by_the_fixture() -> None:
    logs = [GOLDEN["runs"][str(rate)]["log"] for rate in made.RATES]
    assert logs[0][-1]["test_acc1"] < logs[1][-1]["test_acc1"] < 100
    assert logs[0][-1]["train_lr"] == pytest.approx(made.RATES[0] * made.BATCH / 256 / 4)


def test_the_page_shows_the_numbers_of_the_fixture() -> None:
    (table,) = (t for page in PAGES for t in page.tables if "train loss" in t[0])
    runs = [(rate, run["log"]) for rate, run in GOLDEN["runs"].items()]
    assert table[1:] == [
        [
            rate,
            str(line["epoch"] + 1),
            f"{line['train_loss']:.4f}",
            f"{line['test_loss']:.4f}",
            f"{line['test_acc1']:.0f} %",
        ]
        for rate, log in runs
        for line in log
    ]
