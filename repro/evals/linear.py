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
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.config.schema import ViewsConfig
from repro.data.dataset import Dataset, Split
from repro.data.views.kinds import to_pixels
from repro.dino.vit import DinoViT
from repro.evals.features.files import frozen_features
from repro.evals.features.layers import Layers, layer_features
from repro.randomness import derive, epoch_order

# Per 256 images of a batch. The script's default is 0.001; its authors name 0.3 for ResNet-50.
RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3)
VIT_B_WIDTH = 768
FOUR_BLOCKS = Layers(4)
HELD_OUT = 10  # one training image in so many
CHUNK = 4096  # images whose logits are made at a time


@dataclass(frozen=True)
class LinearSettings:
    """`layers`: what a probe sees of the backbone."""

    layers: Layers = FOUR_BLOCKS
    epochs: int = 100
    batch_size: int = 1024  # 8 GPUs x 128
    rates: tuple[float, ...] = RATES
    seed: int = 0
    resolution: int = 224


@dataclass(frozen=True)
class LinearResult:
    """Accuracies in percent; `official_PE` and `clean_PE` on the test images, by rate and epoch.

    `official_right_M` and `clean_right_PM` say of each test image whether the probe that `official`
    counts, and each of the last epoch's, names it right.
    """

    rates: tuple[float, ...]
    official_PE: Tensor
    clean_PE: Tensor
    held_out_PE: Tensor
    official_right_M: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    clean_right_PM: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.bool))

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

    @property
    def clean_right_M(self) -> Tensor:
        return self.clean_right_PM[self.chosen]

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
    layers = Layers(1, pooled=True) if base else FOUR_BLOCKS
    settings = LinearSettings(layers, seed=seed, resolution=resolution)
    return replace(settings, epochs=epochs) if epochs else settings


def linear_probe(
    backbone: nn.Module,
    dataset: Dataset,
    settings: LinearSettings,
    device: torch.device,
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> LinearResult:
    """Probes of all rates on one choice of layers; see `linear_probes`."""
    choices = [settings.layers]
    return linear_probes(backbone, dataset, settings, choices, device, say, cache)[0]


def linear_probes(
    backbone: nn.Module,
    dataset: Dataset,
    settings: LinearSettings,
    choices: Sequence[Layers],
    device: torch.device,
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> list[LinearResult]:
    """Train all probes on a frozen backbone, for several choices of layers side by side (App. F.2).

    Args:
        choices: in place of the settings' layers.
        say: takes a line of progress now and then.
        cache: where the features of whole images are kept.
    """
    backbone.eval()
    train, test = dataset.train, dataset.test
    held_N = held_out(train.labels_N, settings.seed)
    widest = Layers(max(c.blocks for c in choices), any(c.pooled for c in choices))

    def features(split: Split) -> Tensor:
        return frozen_features(backbone, split, widest, device, cache, say)

    test_MF, test_labels_M = features(test).to(device), test.labels_N.to(device)
    held_HF, held_labels_H = features(train)[held_N].to(device), train.labels_N[held_N].to(device)
    # From here on everything that a step reads lies on the device: no step waits for a copy.
    labels_N, held_N = train.labels_N.to(device), held_N.to(device)

    images, classes = len(train.labels_N), len(dataset.classes)
    batch_size = min(settings.batch_size, max(1, images // 4))
    width = test_MF.shape[1]
    columns = [columns_of(choice, widest, backbone, width).to(device) for choice in choices]
    sweeps = [
        Probes(settings.rates, batch_size, len(c), classes, settings.seed, device) for c in columns
    ]
    curves = [_Curves() for _ in choices]
    views = ViewsConfig(
        global_size=settings.resolution, global_scale=(0.08, 1.0), local_number=0,
        jitter=0.0, grey=0.0, blur=(0.0, 0.0, 0.0), solarise=0.0,
    )  # fmt: skip
    steps, seed = math.ceil(images / batch_size), derive(settings.seed, "linear")
    for epoch in range(settings.epochs):
        for probes in sweeps:
            probes.set_rate(0.5 * (1 + math.cos(math.pi * epoch / settings.epochs)))
        order = epoch_order(settings.seed, epoch, images)
        batches = list(torch.split(order, batch_size))
        cropped = train.view_batches(batches, views, seed, epoch * steps)
        for batch, made in zip(batches, cropped, strict=True):
            first = made[0][: len(batch)]  # of two views
            pixels = to_pixels(first.to(device, non_blocking=True))
            features_BF = layer_features(backbone, pixels, widest)
            places_B = batch.to(device, non_blocking=True)
            labels_B, held_B = labels_N[places_B], held_N[places_B]
            for probes, places in zip(sweeps, columns, strict=True):
                probes.step(features_BF[:, places], labels_B, held_B)
        best = 0.0
        for probes, places, kept in zip(sweeps, columns, curves, strict=True):
            right_PM = probes.right(test_MF[:, places], test_labels_M)
            _, held_P = probes.accuracies(held_HF[:, places], held_labels_H)
            best = max(best, kept.add(right_PM, held_P))
        if (epoch + 1) % max(1, settings.epochs // 10) == 0:
            say(f"linear: epoch {epoch + 1} of {settings.epochs}, best rate {best:.1f} %")
    return [kept.result(settings.rates) for kept in curves]


@dataclass
class _Curves:
    """What the probes of one choice of layers reach, epoch by epoch."""

    official: list[Tensor] = field(default_factory=list)
    clean: list[Tensor] = field(default_factory=list)
    held_out: list[Tensor] = field(default_factory=list)
    best: float = -1.0
    best_right_M: Tensor = field(default_factory=lambda: torch.empty(0))
    last_right_PM: Tensor = field(default_factory=lambda: torch.empty(0))

    def add(self, right_PM: Tensor, held_P: Tensor) -> float:
        """One epoch; its best accuracy on the test images."""
        official_P, clean_P = percent_right(right_PM)
        self.official.append(official_P)
        self.clean.append(clean_P)
        self.held_out.append(held_P)
        best = float(official_P.max())
        if best > self.best:
            self.best, self.best_right_M = best, right_PM[int(official_P.argmax())]
        self.last_right_PM = right_PM[len(official_P) :]
        return best

    def result(self, rates: tuple[float, ...]) -> LinearResult:
        return LinearResult(
            rates,
            official_PE=torch.stack(self.official, dim=1),
            clean_PE=torch.stack(self.clean, dim=1),
            held_out_PE=torch.stack(self.held_out, dim=1),
            official_right_M=self.best_right_M.cpu(),
            clean_right_PM=self.last_right_PM.cpu(),
        )


def columns_of(choice: Layers, widest: Layers, backbone: nn.Module, width: int) -> Tensor:
    """Where the features of `choice` lie among those of the widest choice.

    Those are the [CLS] tokens from the earliest block to the last, then the mean patch tokens.
    """
    if not isinstance(backbone, DinoViT):
        return torch.arange(width)
    most = min(widest.blocks, len(backbone.blocks))
    last, dim = min(choice.blocks, most), int(backbone.embed_dim)
    cls = torch.arange((most - last) * dim, most * dim)
    return torch.cat([cls, cls + most * dim]) if choice.pooled else cls


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
        # A launch for each rate instead of a dozen.
        self.optimiser = torch.optim.SGD(groups, momentum=0.9, fused=device.type == "cuda")

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
        seen_PB[count // 2 :].masked_fill_(held_B, 0.0)
        # Each probe's mean; they share no weights, so the sum's gradient is each one's own.
        loss = (loss_PB * seen_PB).sum(dim=1) / seen_PB.sum(dim=1).clamp(min=1)
        self.optimiser.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def logits(self, features_BF: Tensor) -> Tensor:
        weights_PCF, biases_PC = torch.stack([*self.weights]), torch.stack([*self.biases])
        return torch.einsum("bf,pcf->pbc", features_BF, weights_PCF) + biases_PC[:, None]

    @torch.no_grad()
    def right(self, features_MF: Tensor, labels_M: Tensor) -> Tensor:
        """Whether each probe names each image right, [P, M]: first those on all images, then those
        without the held-out.
        """
        chunks = zip(torch.split(features_MF, CHUNK), torch.split(labels_M, CHUNK), strict=True)
        right = [self.logits(chunk_MF).argmax(dim=2) == chunk_M for chunk_MF, chunk_M in chunks]
        return torch.cat(right, dim=1)

    def accuracies(self, features_MF: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
        """In percent, by rate: of the probes on all images, and of those without the held-out."""
        return percent_right(self.right(features_MF, labels_M))


def percent_right(right_PM: Tensor) -> tuple[Tensor, Tensor]:
    """The share of images named right, of the first half of the probes and of the second."""
    count, images = right_PM.shape
    percent_P = 100 * right_PM.sum(dim=1).float().cpu() / max(1, images)
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
