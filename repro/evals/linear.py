"""Linear classification on frozen features (Sec. 4.1, App. F.2; the authors' `eval_linear.py`).

A linear layer on the [CLS] tokens of the last blocks of a ViT, each through the final norm, or on
the pooled features of a ResNet; SGD with momentum 0.9 and no weight decay, a cosine over epochs to
0, random resized crops and flips. The paper sweeps the learning rate and gives no values: here all
rates are trained side by side on the same features, so that a sweep costs one pass.

Two tiers. `official` as in the authors' script: all training images, and the best accuracy on the
test images over epochs (and rates). `clean`: a tenth of the training images is held out to choose
the rate, and the last epoch counts.

Departures from the authors' code: crops are resampled as those of training are (theirs bilinear);
a batch is at most a quarter of the training images, for data sets smaller than ImageNet.

Shapes: B images of a batch, P probes, C classes, F width of the features, N train, M test images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.config import ViewsConfig
from repro.data.datasets import Dataset, Split
from repro.dino.randomness import derive, epoch_order
from repro.dino.views import to_pixels
from repro.dino.vit import DinoViT

# Per 256 images of a batch. The script's default is 0.001; its authors name 0.3 for ResNet-50.
RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3)
VIT_B_WIDTH = 768
HELD_OUT = 10  # one training image in so many
CHUNK = 4096  # images whose logits are made at a time


@dataclass(frozen=True)
class LinearSettings:
    """`blocks`: of a ViT, the last so many; `pooled`: their mean patch token, too (ViT-B)."""

    blocks: int = 4
    pooled: bool = False
    epochs: int = 100
    batch_size: int = 1024  # 8 GPUs x 128
    rates: tuple[float, ...] = RATES
    seed: int = 0
    resolution: int = 224


@dataclass(frozen=True)
class LinearResult:
    """Accuracies in percent; `official_PE` and `clean_PE` on the test images, by rate and epoch."""

    rates: tuple[float, ...]
    official_PE: Tensor
    clean_PE: Tensor
    held_out_PE: Tensor

    @property
    def official(self) -> float:
        return float(self.official_PE.max())

    @property
    def chosen(self) -> int:
        """The rate that is best on held-out images after the last epoch."""
        return int(self.held_out_PE[:, -1].argmax())

    @property
    def clean(self) -> float:
        return float(self.clean_PE[self.chosen, -1])

    def metrics(self) -> dict[str, float]:
        return {
            "linear": self.official,
            "linear_clean": self.clean,
            "linear_clean_rate": self.rates[self.chosen],
        }


def settings_for(dim: int, resolution: int, seed: int, epochs: int = 0) -> LinearSettings:
    """App. F.2: [CLS] of the last four blocks; a ViT-B's last [CLS] and its mean patch token.

    Args:
        dim: width of the backbone.
        epochs: 0 for the paper's.
    """
    base = dim >= VIT_B_WIDTH
    settings = LinearSettings(
        blocks=1 if base else 4, pooled=base, seed=seed, resolution=resolution
    )
    return replace(settings, epochs=epochs) if epochs else settings


@torch.no_grad()
def linear_features(backbone: nn.Module, images: Tensor, blocks: int, pooled: bool) -> Tensor:
    """What a probe sees of images [B, 3, H, W]: [B, F]; of a shallower ViT, all its blocks."""
    if not isinstance(backbone, DinoViT):
        return cast(Tensor, backbone(images)).float()
    last = min(blocks, len(backbone.blocks))
    found: Any = backbone.forward_intermediates(
        images, indices=last, return_prefix_tokens=True, norm=True, output_fmt="NLC",
        intermediates_only=True,
    )  # fmt: skip
    parts = [prefix_B1D[:, 0] for _, prefix_B1D in found]
    if pooled:
        parts += [patches_BND.mean(dim=1) for patches_BND, _ in found]
    return torch.cat(parts, dim=1).float()


def linear_probe(
    backbone: nn.Module,
    dataset: Dataset,
    settings: LinearSettings,
    device: torch.device,
    say: Callable[[str], None] = print,
) -> LinearResult:
    """Train all probes on a frozen backbone.

    Args:
        say: takes a line of progress now and then.
    """
    backbone.eval()
    train, test = dataset.train, dataset.test
    held_N = held_out(train.labels_N, settings.seed)

    def features(split: Split) -> Tensor:
        batches = split.evaluation_batches(128)
        extracted = [_features(backbone, images.to(device), settings) for images in batches]
        return torch.cat(extracted)

    test_MF, test_labels_M = features(test), test.labels_N.to(device)
    still_NF = features(train)
    held_HF, held_labels_H = still_NF[held_N.to(device)], train.labels_N[held_N].to(device)
    del still_NF

    images = len(train.labels_N)
    batch_size = min(settings.batch_size, max(1, images // 4))
    probes = Probes(
        settings.rates, batch_size, test_MF.shape[1], len(dataset.classes), settings.seed, device
    )
    views = ViewsConfig(
        global_size=settings.resolution, global_scale=(0.08, 1.0), local_number=0,
        jitter=0.0, grey=0.0, blur=(0.0, 0.0, 0.0), solarise=0.0,
    )  # fmt: skip
    curves: dict[str, list[Tensor]] = {"official": [], "clean": [], "held_out": []}
    steps, seed = math.ceil(images / batch_size), derive(settings.seed, "linear")
    for epoch in range(settings.epochs):
        probes.set_rate(0.5 * (1 + math.cos(math.pi * epoch / settings.epochs)))
        order = epoch_order(settings.seed, epoch, images)
        batches = list(torch.split(order, batch_size))
        cropped = train.view_batches(batches, views, seed, epoch * steps)
        for batch, made in zip(batches, cropped, strict=True):
            pixels = to_pixels(made[0][: len(batch)].to(device))  # the first of two views
            features_BF = _features(backbone, pixels, settings)
            probes.step(features_BF, train.labels_N[batch].to(device), held_N[batch].to(device))
        official_P, clean_P = probes.accuracies(test_MF, test_labels_M)
        _, held_P = probes.accuracies(held_HF, held_labels_H)
        for name, value in (("official", official_P), ("clean", clean_P), ("held_out", held_P)):
            curves[name].append(value)
        if (epoch + 1) % max(1, settings.epochs // 10) == 0:
            best = float(official_P.max())
            say(f"linear: epoch {epoch + 1} of {settings.epochs}, best rate {best:.1f} %")
    stacked = {name: torch.stack(values, dim=1) for name, values in curves.items()}
    return LinearResult(settings.rates, stacked["official"], stacked["clean"], stacked["held_out"])


class Probes:
    """Linear layers side by side: for each rate one on all images, one without held-out ones."""

    def __init__(
        self,
        rates: Sequence[float],
        batch_size: int,
        width: int,
        classes: int,
        seed: int,
        device: torch.device,
    ) -> None:
        random = torch.Generator().manual_seed(derive(seed, "linear weights"))
        first = torch.empty(classes, width).normal_(0, 0.01, generator=random)
        count = 2 * len(rates)
        self.weights = [nn.Parameter(first.clone().to(device)) for _ in range(count)]
        self.biases = [nn.Parameter(torch.zeros(classes, device=device)) for _ in range(count)]
        self.rates = [rate * batch_size / 256 for rate in (*rates, *rates)]
        groups = [
            {"params": [weight, bias], "lr": rate}
            for weight, bias, rate in zip(self.weights, self.biases, self.rates, strict=True)
        ]
        self.optimiser = torch.optim.SGD(groups, momentum=0.9)

    def set_rate(self, share: float) -> None:
        """All rates at this share of what they started with."""
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = share * rate

    def step(self, features_BF: Tensor, labels_B: Tensor, held_B: Tensor) -> None:
        """One step of every probe; the second half does not see held-out images."""
        logits_PBC = self.logits(features_BF)
        count = len(logits_PBC)
        loss_PB = cross_entropy(
            logits_PBC.flatten(0, 1), labels_B.repeat(count), reduction="none"
        ).view(count, -1)
        seen_PB = torch.ones_like(loss_PB)
        seen_PB[count // 2 :, held_B] = 0.0
        # Each probe's mean; they share no weights, so the sum's gradient is each one's own.
        loss = (loss_PB * seen_PB).sum(dim=1) / seen_PB.sum(dim=1).clamp(min=1)
        self.optimiser.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def logits(self, features_BF: Tensor) -> Tensor:
        weights_PCF, biases_PC = torch.stack([*self.weights]), torch.stack([*self.biases])
        return torch.einsum("bf,pcf->pbc", features_BF, weights_PCF) + biases_PC[:, None]

    @torch.no_grad()
    def accuracies(self, features_MF: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
        """In percent, by rate: of the probes on all images, and of those without the held-out."""
        count = len(self.weights)
        correct_P = torch.zeros(count)
        for chunk_MF, chunk_M in zip(
            torch.split(features_MF, CHUNK), torch.split(labels_M, CHUNK), strict=True
        ):
            predicted_PM = self.logits(chunk_MF).argmax(dim=2)
            correct_P += (predicted_PM == chunk_M).sum(dim=1).cpu()
        percent_P = 100 * correct_P / max(1, len(labels_M))
        return percent_P[: count // 2], percent_P[count // 2 :]


def held_out(labels_N: Tensor, seed: int) -> Tensor:
    """Which training images choose the rate: one in ten of every class, [N] of bool.

    A class of fewer than two images keeps them all for training.
    """
    held_N = torch.zeros(len(labels_N), dtype=torch.bool)
    random = torch.Generator().manual_seed(derive(seed, "linear held out"))
    for label in torch.unique(labels_N):
        places = (labels_N == label).nonzero().flatten()
        number = math.ceil(len(places) / HELD_OUT) if len(places) > 1 else 0
        held_N[places[torch.randperm(len(places), generator=random)[:number]]] = True
    return held_N


def _features(backbone: nn.Module, images: Tensor, settings: LinearSettings) -> Tensor:
    return linear_features(backbone, images, settings.blocks, settings.pooled)
