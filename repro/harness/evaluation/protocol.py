"""What a protocol is: how it is measured, on which subject, and the numbers that it leaves.

torch is imported only when something is measured: `repro --help` reads the names of all protocols.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.errors import UserError
from repro.harness.runs.evaluations import Judged, Request, judged

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from repro.config.schema import RunConfig
    from repro.data.dataset import Dataset, Split


class Kind(StrEnum):
    """What the numbers of a protocol are, in the words of a figure's legend."""

    knn = "k-NN top-1"
    linear = "linear top-1"
    logistic = "logistic regression top-1"
    finetune = "finetuning top-1"
    attention = "attention masks, Jaccard index"
    retrieval = "retrieval, mAP"
    copies = "copy detection, mAP"
    video = "video segmentation, J & F"
    speed = "speed and memory"


@dataclass
class Subject:
    """A frozen backbone, and the run (or the data) that it is evaluated as.

    `cache`: where features are kept; `details`: what a protocol leaves beside its numbers; `side`:
    asked for in place of a benchmark's own; `seen`: digests of the images that a run was made of,
    where it noted them; `judged`: what each test item contributes to a number; `opened`: data sets
    by what they are, which may be shared with other subjects.
    """

    backbone: nn.Module
    config: RunConfig
    device: torch.device
    cache: Path | None = None
    details: dict[str, Any] = field(default_factory=dict)
    side: int = 0
    seen: Mapping[str, str] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    opened: dict[str, Dataset] = field(default_factory=dict)

    def keep(self, number: str, items: Tensor | Sequence[float]) -> None:
        """What the test items contribute to a number, as `repro.evals.judged.Keep`."""
        self.judged[number] = judged(items)

    def once(self, what: str, open_it: Callable[[], Dataset]) -> Dataset:
        """A data set that is opened only where none that shares it has done so."""
        if what not in self.opened:
            self.opened[what] = open_it()
        return self.opened[what]

    @cached_property
    def dataset(self) -> Dataset:
        from repro.data.datasets import open_dataset

        config = self.config
        paths, resources = config.paths, config.resources

        def opened() -> Dataset:
            found = open_dataset(config.data, paths.data, resources, self.device, paths.labelled)
            for line in found.notes:
                print(line, file=sys.stderr)
            return found

        dataset = self.once(repr((config.data, paths.data, paths.labelled)), opened)
        now = dataset.digests() if self.seen else {}
        if changed := [part for part in now if self.seen.get(part) != now[part]]:
            raise UserError(
                f"paths.data={paths.data}: the {' and '.join(changed)} images are others than the "
                "run was made of; put those back, or name these: --data NAME=PATH"
            )
        if dataset.judged is None:
            raise UserError(
                f"paths.data={paths.data}: pictures without classes, on which nothing can be "
                "evaluated; repro eval --data NAME=PATH with train/CLASS/* and val/CLASS/*"
            )
        return dataset.judged

    def features(self, split: Split) -> Tensor:
        """What k-NN and logistic regression see of a split, [N, D]."""
        from repro.evals.features.files import frozen_features
        from repro.evals.features.layers import Layers

        return frozen_features(self.backbone, split, Layers(), self.device, self.cache)

    def untrained(self) -> nn.Module:
        """The network before training."""
        from repro.dino.networks import initial_backbone

        return initial_backbone(self.config).to(self.device)


Measure = Callable[[Request, Subject], dict[str, float]]


@dataclass(frozen=True)
class Protocol:
    """What it measures, for people, the numbers that it leaves, and the function that measures.

    Args:
        tiers: each number twice, `x` as the authors' script computes it and `x_clean` by the
            benchmark's own definition.
        benchmarks: the paper's, where it needs data of its own kind.
        stand_in: the data made here that can stand for them.
        settings: keys of `config.Protocols`.
        over: what its numbers are means over.
    """

    about: str
    kind: Kind
    metrics: tuple[str, ...]
    measure: Measure
    tiers: bool = False
    benchmarks: tuple[str, ...] = ()
    stand_in: str = ""
    settings: tuple[str, ...] = ()
    over: str = "test images"
