"""From a request to numbers: which function of `repro/evals` answers it, on which data.

Metrics of a benchmark carry its name: `jaccard@voc12`. The data of a run itself need none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from repro.config import RunConfig
from repro.data.datasets import Dataset, open_dataset
from repro.data.low_shot import low_shot
from repro.dino.networks import initial_backbone
from repro.harness.requests import LOW_SHOT, Request


@dataclass
class Subject:
    """A frozen backbone, and the run (or the data) that it is evaluated as."""

    backbone: nn.Module
    config: RunConfig
    device: torch.device

    @cached_property
    def dataset(self) -> Dataset:
        config = self.config
        return open_dataset(config.data, config.paths.data, config.resources, self.device)

    def untrained(self) -> nn.Module:
        """The network before training."""
        return initial_backbone(self.config).to(self.device)

    def labelled(self, wanted: Request) -> Dataset:
        """The images with classes that a request is about: the run's own, all or a few of them."""
        share = LOW_SHOT.get(wanted.data)
        return low_shot(self.dataset, share, wanted.root) if share else self.dataset


def measure(wanted: Request, subject: Subject) -> dict[str, float]:
    """The numbers that `wanted` asks for.

    Raises:
        UserError: data that are missing or unreadable, or that do not suit the backbone.
    """
    found = MEASURES[wanted.protocol](wanted, subject)
    ending = f"@{wanted.data}" if wanted.data else ""
    return {f"{key}{ending}": value for key, value in found.items()}


def _knn(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.dino.kernels import choose_kernels
    from repro.evals.knn import knn_protocol

    config, device = subject.config, subject.device
    kernels = choose_kernels(config, device)
    dataset = subject.labelled(wanted)
    return knn_protocol(subject.backbone, dataset, config.eval, device, kernels)


def _linear(wanted: Request, subject: Subject) -> dict[str, float]:
    from repro.dino.backbones import feature_dim
    from repro.evals.linear import linear_probe, settings_for

    config = subject.config
    width, epochs = feature_dim(subject.backbone), wanted.settings["linear_epochs"]
    settings = settings_for(width, config.data.resolution, config.seed, epochs)
    dataset = subject.labelled(wanted)
    return linear_probe(subject.backbone, dataset, settings, subject.device).metrics()


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


Measure = Callable[[Request, Subject], dict[str, float]]
MEASURES: Mapping[str, Measure] = {"knn": _knn, "linear": _linear, "attention": _attention}
