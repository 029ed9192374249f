"""Protocols on any weights and any images: each answer is measured once and kept.

Answers lie in `results/evaluations`, each in a file whose name is its own for every network, folder
of images and option. It says what it rests on (`items.py`): asked again, a kept one serves if that
is still the same, and one that is damaged is made again. Speed is measured anew every time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.harness.evaluation.any_checkpoint import (
    ChosenWeights,
    absolute,
    open_weights,
    short_digest,
)
from repro.harness.evaluation.chosen_data import ChosenData, seen_by
from repro.harness.evaluation.items import items_of, rests_on
from repro.harness.evaluation.names import PROTOCOLS
from repro.harness.evaluation.protocol import Subject
from repro.harness.evaluation.stage import judgements, made_on, measure
from repro.harness.runs.evaluations import (
    Evaluation,
    Images,
    Source,
    WeightsEvaluation,
    read_weights_evaluation,
)
from repro.harness.runs.failures import GpuMemoryError

if TYPE_CHECKING:
    from repro.data.dataset import Dataset
    from repro.evals.weights.networks import Weights

EARLIER = "kept by an earlier version, which did not say what it rests on"
CHANGED = "what was kept rests on other images, code or versions"


@dataclass(frozen=True)
class Answer:
    """What a protocol gave, and where it lies.

    Attributes:
        kept: whether it had been made before.
        why: of one that had lain there and was made again.
    """

    evaluation: Evaluation
    path: Path
    kept: bool
    why: str = ""

    def metrics(self) -> dict[str, float]:
        """Those that are numbers."""
        return {k: v for k, v in self.evaluation.metrics.items() if v is not None}


@dataclass
class Frozen:
    """Weights that protocols ask: opened once, and data sets shared with other weights.

    Args:
        side: of the images that the network sees; 0 for its own.
        skip_unreadable: leave out images with classes that cannot be read, and count them.
        scratch: where features of images that are made here are kept for further protocols.
    """

    chosen: ChosenWeights
    results: Path
    side: int = 0
    skip_unreadable: bool = False
    scratch: Path | None = None
    opened: dict[str, Dataset] = field(default_factory=dict)

    @cached_property
    def weights(self) -> Weights:
        return open_weights(self.chosen)

    def answer(self, images: ChosenData) -> Answer:
        """A protocol's answer on these images.

        Raises:
            UserError: weights or data that cannot be read.
        """
        request, weights = images.request, self.weights
        subject, seen = self._subject(images)
        path = self._file(images, seen)
        basis = rests_on(request, subject, weights, seen)
        found, why = _kept(path, basis) if PROTOCOLS[request.protocol].over else (None, "")
        if found is not None:
            return Answer(found, path, kept=True)
        try:
            metrics = measure(request, subject)
        except GpuMemoryError as error:
            raise UserError(f"{request.protocol}: {error}") from error
        evaluation = WeightsEvaluation(
            protocol=request.protocol,
            request=request,
            weights=Source(
                str(weights.source), weights.digest, weights.network, weights.model.heads
            ),
            data=Images(images.name, images.root),
            metrics=dict(metrics),
            details=subject.details,
            env=made_on(subject.device),
            judged=judgements(request, subject),
            items=items_of(request, subject) if subject.judged else "",
            made=time.time(),
            seen=seen | ({"side": self.side} if self.side else {}),
            rests_on=basis,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        evaluation.write(path)
        return Answer(evaluation, path, kept=False, why=why)

    def _subject(self, images: ChosenData) -> tuple[Subject, dict[str, object]]:
        """What the protocol judges, and in words how images are shown to it."""
        from repro.distributed import open_device

        weights = self.weights
        config, seen = seen_by(images.config, weights, self.side)
        config = replace(config, data=replace(config.data, skip_unreadable=self.skip_unreadable))
        device = open_device(config.resources.device.value)
        cache = self.scratch if config.data.made_here else self.results / "features"
        backbone = weights.backbone.to(device)
        subject = Subject(backbone, config, device, cache, side=self.side, opened=self.opened)
        said = dict(seen.said)
        if not images.whole_images:  # whose size is the benchmark's
            said = {key: said[key] for key in ("mean", "std")}
        return subject, said

    def _file(self, images: ChosenData, seen: dict[str, object]) -> Path:
        weights, request = self.weights, images.request
        heads, root = weights.model.heads, absolute(images.root)
        own = short_digest(heads, root, request.published, seen, self.side)
        about = (weights.digest, weights.network, images.name, request.protocol, own)
        return self.results / "evaluations" / f"{'-'.join(part for part in about if part)}.json"


def _kept(path: Path, basis: str) -> tuple[WeightsEvaluation | None, str]:
    """The answer that lies there, or why it does not serve."""
    try:
        found = read_weights_evaluation(path)
    except UserError as damaged:
        return None, str(damaged)
    if found is None or found.rests_on == basis:
        return found, ""
    return None, CHANGED if found.rests_on else EARLIER
