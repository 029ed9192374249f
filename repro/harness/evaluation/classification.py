"""Classification: k-NN, linear probes, logistic regression and finetuning, on the run's own images
or a benchmark's (Sec. 4.1, 4.2.3; Tables 2, 6, 10 to 12; App. A, F).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.harness.evaluation.protocol import Subject
from repro.harness.runs.evaluations import Request

if TYPE_CHECKING:
    from torch import Tensor, nn

    from repro.data.dataset import Dataset
    from repro.evals.features.layers import Layers

LOW_SHOT = {"1pct": 0.01, "10pct": 0.1}  # of the run's own training images (App. A)
TORCHVISION = {
    "cifar10": "CIFAR10", "cifar100": "CIFAR100", "flowers": "Flowers102", "cars": "StanfordCars",
}  # fmt: skip
INATURALIST = {"inat18": 2018, "inat19": 2019}
LABELLED = (*TORCHVISION, *INATURALIST, "places205")  # benchmarks of classification by name


def knn(request: Request, subject: Subject) -> dict[str, float]:
    from repro.dino.fast.choice import choose_kernels
    from repro.evals.knn import knn_protocol

    config, device = subject.config, subject.device
    kernels = choose_kernels(config, device)
    dataset = labelled(request, subject)
    accuracies, right_M = knn_protocol(
        subject.backbone, dataset, config.eval, device, kernels, subject.cache, subject.keep
    )
    subject.details["answers"] = {
        "k": config.eval.knn_k,
        **answers(right_M.cpu(), dataset.test.labels_N.cpu(), len(dataset.classes)),
    }
    return accuracies


def answers(right_M: Tensor, labels_M: Tensor, classes: int) -> dict[str, Any]:
    """Which images were right, as a record keeps it, and the accuracy of every class in percent."""
    import numpy as np

    images_C = labels_M.bincount(minlength=classes)
    right_C = labels_M[right_M].bincount(minlength=classes)
    shares = (100 * right_C.double() / images_C).tolist()
    bits = np.packbits(right_M.numpy()).tobytes()
    there = (images_C > 0).tolist()
    return {
        "classes": [share if images else None for share, images in zip(shares, there, strict=True)],
        "right": base64.b64encode(bits).decode(),
    }


def linear(request: Request, subject: Subject) -> dict[str, float]:
    from repro.dino.backbones import feature_dim
    from repro.evals.linear import linear_probe, settings_for

    config = subject.config
    width, epochs = feature_dim(subject.backbone), request.settings["linear_epochs"]
    settings = settings_for(width, config.data.resolution, config.seed, epochs)
    dataset = labelled(request, subject)
    probe = linear_probe(subject.backbone, dataset, settings, subject.device, cache=subject.cache)
    subject.keep("linear", probe.official_right_M)
    subject.keep("linear_clean", probe.clean_right_M)
    return probe.metrics()


def blocks(request: Request, subject: Subject) -> dict[str, float]:
    from repro.dino.vit import DinoViT
    from repro.evals.features.layers import Layers

    depth = len(subject.backbone.blocks) if isinstance(subject.backbone, DinoViT) else 1
    choices = {f"l{number}": Layers(number) for number in (1, 2, 4, 6) if number <= depth}
    return _choices(request, subject, choices)


def pooling(request: Request, subject: Subject) -> dict[str, float]:
    from repro.evals.features.layers import Layers

    return _choices(request, subject, {"cls": Layers(1), "cls_avg": Layers(1, pooled=True)})


def _choices(request: Request, subject: Subject, choices: Mapping[str, Layers]) -> dict[str, float]:
    """Linear probes on several choices of layers, of both tiers."""
    from repro.evals.linear import LinearSettings, linear_probes

    config, epochs = subject.config, request.settings["linear_epochs"]
    settings = LinearSettings(epochs=epochs, seed=config.seed, resolution=config.data.resolution)
    layers, dataset = list(choices.values()), labelled(request, subject)
    results = linear_probes(
        subject.backbone, dataset, settings, layers, subject.device, cache=subject.cache
    )
    pairs = list(zip(choices, results, strict=True))
    for name, result in pairs:
        subject.keep(f"linear_{name}", result.official_right_M)
        subject.keep(f"linear_{name}_clean", result.clean_right_M)
    official = {f"linear_{name}": result.official for name, result in pairs}
    return official | {f"linear_{name}_clean": result.clean for name, result in pairs}


def logistic(request: Request, subject: Subject) -> dict[str, float]:
    from repro.evals.logistic import logistic_accuracies

    dataset = labelled(request, subject)
    pair = (subject.features(split) for split in (dataset.train, dataset.test))
    train_NF, test_MF = pair
    labels_N, labels_M = dataset.train.labels_N, dataset.test.labels_N
    seed = subject.config.seed
    keep = subject.keep
    regression = logistic_accuracies(train_NF, labels_N, test_MF, labels_M, seed, keep)
    subject.details["converged"] = regression.converged
    return regression.metrics()


def finetune(request: Request, subject: Subject) -> dict[str, float]:
    return _tuned(request, subject, subject.backbone, "finetune")


def scratch(request: Request, subject: Subject) -> dict[str, float]:
    return _tuned(request, subject, subject.untrained(), "scratch")


def _tuned(request: Request, subject: Subject, backbone: nn.Module, name: str) -> dict[str, float]:
    from repro.evals.finetune import FinetuneSettings
    from repro.evals.finetune import finetune as tune

    config = subject.config
    epochs, batch, lr = (request.settings[f"finetune_{key}"] for key in ("epochs", "batch", "lr"))
    settings = FinetuneSettings(epochs, batch, lr, config.data.resolution, config.seed)
    found = tune(backbone, labelled(request, subject), settings, subject.device)
    subject.keep(name, found.best_right_M)
    subject.keep(f"{name}_clean", found.last_right_M)
    return {key.replace("finetune", name): value for key, value in found.metrics().items()}


def labelled(request: Request, subject: Subject) -> Dataset:
    """The images with classes that a request is about: the run's own or a benchmark's, all of
    them or a few for training.
    """
    from repro.data.low_shot import low_shot

    benchmark, _, suffix = request.data.partition("-")
    if benchmark in LOW_SHOT:
        return low_shot(subject.dataset, LOW_SHOT[benchmark], request.root)
    dataset = _benchmark(request, subject) if benchmark else subject.dataset
    if dataset.unreadable_images:
        subject.details["unreadable_images"] = dataset.unreadable_images
    return low_shot(dataset, LOW_SHOT[suffix]) if suffix in LOW_SHOT else dataset


def is_tree(root: str) -> bool:
    """Whether a folder holds images by class, whatever its name promises."""
    return all((Path(root) / part).is_dir() for part in ("train", "val"))


def _benchmark(request: Request, subject: Subject) -> Dataset:
    """A classification benchmark at the resolution at which the run is evaluated."""
    which = repr((subject.config.data, request.source, request.root))
    return subject.once(which, lambda: _open_benchmark(request, subject))


def _open_benchmark(request: Request, subject: Subject) -> Dataset:
    from repro.config.schema import DataConfig, DataKind
    from repro.data.datasets import open_dataset
    from repro.data.listed import PLACES_LISTS, open_inaturalist, open_places205

    config, name = subject.config.data, request.source
    side = config.resolution
    resize = max(side, config.eval_resize)
    data = DataConfig(
        DataKind.folder, name, resolution=side, eval_resize=resize,
        eval_interpolation=config.eval_interpolation, skip_unreadable=config.skip_unreadable,
    )  # fmt: skip
    resources = subject.config.resources
    if is_tree(request.root):
        return open_dataset(data, request.root, resources, subject.device)
    if name in TORCHVISION:
        data = replace(data, kind=DataKind.torchvision, name=TORCHVISION[name])
    if name in INATURALIST:
        return open_inaturalist(data, Path(request.root), resources, INATURALIST[name])
    if name == "places205" and (Path(request.root) / PLACES_LISTS).is_dir():
        return open_places205(data, Path(request.root), resources)
    return open_dataset(data, request.root, resources, subject.device)
