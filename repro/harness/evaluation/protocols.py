"""From a request to numbers: which function of `repro/evals` answers it, on which data.

Metrics of a benchmark carry its name: `jaccard@voc12`. The data of a run itself need none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from repro.config.schema import DataConfig, DataKind, RunConfig
from repro.data.dataset import Dataset, Split
from repro.data.datasets import open_dataset
from repro.data.listed import PLACES_LISTS, open_inaturalist, open_places205
from repro.data.low_shot import low_shot
from repro.dino.networks import initial_backbone
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals.feature_files import frozen_features
from repro.evals.features import Layers
from repro.harness.evaluation.requests import LOW_SHOT, Request

if TYPE_CHECKING:
    from repro.evals.finetune import FinetuneResult


TORCHVISION = {
    "cifar10": "CIFAR10", "cifar100": "CIFAR100", "flowers": "Flowers102", "cars": "StanfordCars",
}  # fmt: skip
INATURALIST = {"inat18": 2018, "inat19": 2019}
LABELLED = (*TORCHVISION, *INATURALIST, "places205")  # benchmarks of classification by name


@dataclass
class Subject:
    """A frozen backbone, and the run (or the data) that it is evaluated as.

    `cache`: where features are kept; `details`: what a protocol leaves beside its numbers.
    """

    backbone: nn.Module
    config: RunConfig
    device: torch.device
    cache: Path | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def dataset(self) -> Dataset:
        config = self.config
        return open_dataset(config.data, config.paths.data, config.resources, self.device)

    def features(self, split: Split) -> Tensor:
        """What k-NN and logistic regression see of a split, [N, D]."""
        return frozen_features(self.backbone, split, Layers(), self.device, self.cache)

    def untrained(self) -> nn.Module:
        """The network before training."""
        return initial_backbone(self.config).to(self.device)

    def labelled(self, wanted: Request) -> Dataset:
        """The images with classes that a request is about: the run's own or a benchmark's, all of
        them or a few for training.
        """
        benchmark, _, suffix = wanted.data.partition("-")
        if benchmark in LOW_SHOT:
            return low_shot(self.dataset, LOW_SHOT[benchmark], wanted.root)
        dataset = self._benchmark(wanted) if benchmark else self.dataset
        return low_shot(dataset, LOW_SHOT[suffix]) if suffix in LOW_SHOT else dataset

    def _benchmark(self, wanted: Request) -> Dataset:
        """A classification benchmark at the resolution at which the run is evaluated."""
        config, name = self.config.data, wanted.source
        side = config.resolution
        resize = max(side, config.eval_resize)
        data = DataConfig(DataKind.folder, name, resolution=side, eval_resize=resize)
        resources = self.config.resources
        if name in TORCHVISION:
            data = replace(data, kind=DataKind.torchvision, name=TORCHVISION[name])
        if name in INATURALIST:
            return open_inaturalist(data, Path(wanted.root), resources, INATURALIST[name])
        if name == "places205" and (Path(wanted.root) / PLACES_LISTS).is_dir():
            return open_places205(data, Path(wanted.root), resources)
        return open_dataset(data, wanted.root, resources, self.device)


def measure(wanted: Request, subject: Subject) -> dict[str, float]:
    """The numbers that `wanted` asks for.

    Raises:
        UserError: data that are missing or unreadable, or that do not suit the backbone; weights
            that are not finite, of which rankings and masks would still give some number.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in subject.backbone.state_dict().values()):
        raise UserError(f"{wanted.protocol}: weights that are not finite: the training diverged")
    found = MEASURES[wanted.protocol](wanted, subject)
    ending = f"@{wanted.data}" if wanted.data else ""
    return {f"{key}{ending}": value for key, value in found.items()}


def _knn(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.dino.fast.kernels import choose_kernels
    from repro.evals.knn import knn_protocol

    config, device = subject.config, subject.device
    kernels = choose_kernels(config, device)
    dataset = subject.labelled(wanted)
    return knn_protocol(subject.backbone, dataset, config.eval, device, kernels, subject.cache)


def _linear(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.dino.backbones import feature_dim
    from repro.evals.linear import linear_probe, settings_for

    config = subject.config
    width, epochs = feature_dim(subject.backbone), wanted.settings["linear_epochs"]
    settings = settings_for(width, config.data.resolution, config.seed, epochs)
    dataset = subject.labelled(wanted)
    found = linear_probe(subject.backbone, dataset, settings, subject.device, cache=subject.cache)
    return found.metrics()


def _finetune(wanted: Request, subject: Subject) -> dict[str, float]:
    return _tuned(wanted, subject, subject.backbone).metrics()


def _scratch(wanted: Request, subject: Subject) -> dict[str, float]:
    found = _tuned(wanted, subject, subject.untrained()).metrics()
    return {key.replace("finetune", "scratch"): value for key, value in found.items()}


def _tuned(wanted: Request, subject: Subject, backbone: nn.Module) -> FinetuneResult:
    from repro.evals.finetune import FinetuneSettings, finetune

    config = subject.config
    epochs, batch, lr = (wanted.settings[f"finetune_{key}"] for key in ("epochs", "batch", "lr"))
    settings = FinetuneSettings(epochs, batch, lr, config.data.resolution, config.seed)
    dataset = subject.labelled(wanted)
    return finetune(backbone, dataset, settings, subject.device)


def _attention(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.data.scenes import VOC_SIDE, CompositeScenes, Scenes, open_voc
    from repro.evals.attention import jaccard_protocol

    made_here = wanted.source == "composites"
    scenes: Scenes = CompositeScenes() if made_here else open_voc(Path(wanted.root))
    size = 0 if made_here else VOC_SIDE
    found = jaccard_protocol(subject.backbone, scenes, size, subject.device)
    floor = jaccard_protocol(subject.untrained(), scenes, size, subject.device)
    return found | {
        "jaccard_random": floor["jaccard"],
        "jaccard_random_clean": floor["jaccard_clean"],
    }


def _blocks(wanted: Request, subject: Subject) -> dict[str, float]:
    depth = len(subject.backbone.blocks) if isinstance(subject.backbone, DinoViT) else 1
    choices = {f"l{number}": Layers(number) for number in (1, 2, 4, 6) if number <= depth}
    return _choices(wanted, subject, choices)


def _pooling(wanted: Request, subject: Subject) -> dict[str, float]:
    return _choices(wanted, subject, {"cls": Layers(1), "cls_avg": Layers(1, pooled=True)})


def _choices(wanted: Request, subject: Subject, choices: Mapping[str, Layers]) -> dict[str, float]:
    """Linear probes on several choices of layers, of both tiers."""
    from repro.evals.linear import LinearSettings, linear_probes

    config, epochs = subject.config, wanted.settings["linear_epochs"]
    settings = LinearSettings(epochs=epochs, seed=config.seed, resolution=config.data.resolution)
    layers, dataset = list(choices.values()), subject.labelled(wanted)
    found = linear_probes(
        subject.backbone, dataset, settings, layers, subject.device, cache=subject.cache
    )
    pairs = list(zip(choices, found, strict=True))
    official = {f"linear_{name}": result.official for name, result in pairs}
    return official | {f"linear_{name}_clean": result.clean for name, result in pairs}


def _logistic(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.evals.logistic import logistic_accuracies

    dataset = subject.labelled(wanted)
    pair = (subject.features(split) for split in (dataset.train, dataset.test))
    train_NF, test_MF = pair
    labels_N, labels_M = dataset.train.labels_N, dataset.test.labels_N
    seed = subject.config.seed
    found = logistic_accuracies(train_NF, labels_N, test_MF, labels_M, seed)
    subject.details["converged"] = found.converged
    return found.metrics()


def _retrieval(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.data.landmarks import Landmarks, make_landmarks, open_revisited
    from repro.evals.retrieval import MADE, SETTINGS, retrieval_protocol

    if wanted.source == "crops":
        landmarks: Landmarks = make_landmarks()
        setting = MADE
    else:
        if wanted.source not in SETTINGS:
            known = ", ".join(SETTINGS)
            raise UserError(f"retrieval: {wanted.source} is none of {known}, crops (made here)")
        landmarks = open_revisited(Path(wanted.root), wanted.source)
        setting = SETTINGS[wanted.source]
    return retrieval_protocol(subject.backbone, landmarks, setting, subject.device)


def _copies(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.data.copies import Copies, make_copies, open_copydays
    from repro.evals.copy_detection import MADE_SIDE, SIDE, copy_protocol

    made_here = wanted.source == "copies"
    asked = wanted.data.partition("-")[2]
    if asked and not (asked.isdecimal() and int(asked)):
        raise UserError(f"copies: {wanted.data}: after the dash goes a side, e.g. copydays-224")
    side = MADE_SIDE if made_here else int(asked or SIDE)
    copies: Copies = make_copies() if made_here else open_copydays(Path(wanted.root))
    return copy_protocol(subject.backbone, copies, side, subject.device)


def _video(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.data.videos import MadeClips, Videos, open_davis
    from repro.evals.video import SIDE, video_protocol

    made_here = wanted.source == "clips"
    videos: Videos = MadeClips() if made_here else open_davis(Path(wanted.root))
    side = 0 if made_here else SIDE
    metrics, by_sequence = video_protocol(subject.backbone, videos, side, subject.device)
    subject.details["sequences"] = by_sequence
    return metrics


def _throughput(_wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.evals.throughput import images_per_second, peak_memory

    device, side = subject.device, subject.config.data.resolution
    subject.details["resolution"] = side
    speed = images_per_second(subject.backbone, side, device)
    return {"images_per_second": speed, "peak_memory_GB": peak_memory(device) / 1e9}


Measure = Callable[[Request, Subject], dict[str, float]]
MEASURES: Mapping[str, Measure] = {
    "knn": _knn,
    "linear": _linear,
    "blocks": _blocks,
    "pooling": _pooling,
    "logistic": _logistic,
    "finetune": _finetune,
    "scratch": _scratch,
    "attention": _attention,
    "retrieval": _retrieval,
    "copies": _copies,
    "video": _video,
    "throughput": _throughput,
}
