"""The stage after training: the paper's protocols on a run's last checkpoint.

Idempotent and separate from training: every run gets k-NN, and what it is asked for
(`requests.py`). An evaluation whose `evaluations/NAME.json` answers the request is not made again,
and any finished run with a checkpoint can be evaluated later, by a job of its own, by the worker
that trained it or by `repro eval`. Its failure leaves `NAME.failure.json` and the run done.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from repro.errors import UserError
from repro.files import expanded
from repro.harness.evaluation.names import PROTOCOLS
from repro.harness.evaluation.protocol import Subject
from repro.harness.evaluation.requests import requests_in
from repro.harness.runs.environment import environment
from repro.harness.runs.evaluations import Judged, Request, RunEvaluation, read_evaluation
from repro.harness.runs.failures import (
    Failure,
    GpuMemoryError,
    failure_of,
    is_out_of_memory,
    told_failure,
    write_failure,
)
from repro.harness.runs.store import RunFolder
from repro.locks import Busy, hold

if TYPE_CHECKING:
    import torch

    from repro.config.schema import RunConfig
    from repro.data.dataset import Dataset
    from repro.dino.fast.kernels import Kernels
    from repro.evals.weights.networks import Weights

AFTER_TRAINING = ("knn",)  # protocols that every run gets; the others are asked for
PATIENCE = 600.0  # seconds to wait for another process that evaluates the same run


def missing(folder: RunFolder, further: Iterable[Request] = ()) -> list[str]:
    """Evaluations still to be made of a finished run; none if its checkpoints are gone.

    Args:
        further: requests that the folder does not hold yet.
    """
    if folder.result() is None or not has_checkpoint(folder):
        return []
    requests = requests_of(folder) | {one.name: one for one in further}
    return [name for name, request in requests.items() if not _answered(folder, request)]


def requests_of(folder: RunFolder) -> dict[str, Request]:
    """What every run gets and what this one was asked for, by name."""
    counts = (folder.result() or {}).get("counts", {})
    usual = () if counts.get("classes") == 0 else AFTER_TRAINING  # pictures without classes
    return {name: Request(name) for name in usual} | requests_in(folder)


def has_checkpoint(folder: RunFolder) -> bool:
    return any((folder.path / "checkpoints").glob("*.pt"))


def failure(folder: RunFolder) -> tuple[str, Failure] | None:
    """Which evaluation failed when it was last tried, and why."""
    for name in missing(folder):
        if why := told_failure(failure_file(folder, name)):
            return name, why
    return None


def evaluate(folder: RunFolder, again: Sequence[str] = ()) -> bool:
    """Make the evaluations that are missing, or those of `again`; whether all succeeded.

    Failures are written, not raised, and hold back no other evaluation.
    """
    files = folder.path / "evaluations"
    files.mkdir(exist_ok=True)
    try:
        with (
            hold(files / ".lock", f"{folder.path}: another process evaluates it", PATIENCE),
            TemporaryDirectory(prefix="repro-features-") as scratch,
        ):
            requests, fine = requests_of(folder), True
            names = again or missing(folder)
            checkpoint = _Checkpoint(folder, Path(scratch) if len(names) > 1 else None)
            for name in names:
                try:
                    _make(checkpoint, requests[name])
                except Exception as error:  # noqa: BLE001  whatever happened, the folder must tell
                    why = failure_of(error, folder.step)
                    with suppress(OSError):
                        write_failure(failure_file(folder, name), why)
                        folder.event("evaluation_failed", protocol=name, line=why.line)
                    print(f"evaluation {name} failed ({why.kind}): {why.line}")
                    fine = False
    except Busy as busy:
        print(busy)
        return False
    return fine


def give_up(folder: RunFolder, why: Failure) -> None:
    """Leave why none of the missing evaluations is underway any more."""
    name = missing(folder)[0]
    write_failure(failure_file(folder, name), why)
    folder.event("evaluation_failed", protocol=name, line=why.line)


@dataclass
class _Checkpoint:
    """The last one of a run, which is opened once for all that is asked of it.

    Args:
        scratch: where features of images that are made here are kept for further protocols.
    """

    folder: RunFolder
    scratch: Path | None
    opened: dict[str, Dataset] = field(default_factory=dict)

    @cached_property
    def config(self) -> RunConfig:
        """One process, whatever number trained."""
        config = self.folder.config()
        return replace(config, resources=replace(config.resources, ranks=1, accumulate=1))

    @cached_property
    def device(self) -> torch.device:
        from repro.distributed import open_device

        resources = self.config.resources
        return open_device(resources.device.value, resources.deterministic)

    @cached_property
    def weights(self) -> Weights:
        from repro.dino.fast.choice import choose_kernels

        return loaded(self.folder, kernels=choose_kernels(self.config, self.device))

    def subject(self) -> Subject:
        """For one request."""
        folder, config, device = self.folder, self.config, self.device
        backbone, made_here = self.weights.backbone.to(device), config.data.made_here
        cache = self.scratch if made_here else folder.path.parents[1] / "features"
        seen = {} if made_here else folder.environment().get("data", {})
        return Subject(backbone, config, device, cache, seen=seen, opened=self.opened)


def _make(checkpoint: _Checkpoint, request: Request) -> None:
    """One evaluation, into the folder."""
    from repro.harness.evaluation.items import items_of

    begun = time.monotonic()
    folder, subject = checkpoint.folder, checkpoint.subject()
    here = replace(request, root=expanded(request.root))
    metrics = measure(here, subject)
    made = RunEvaluation(
        protocol=request.protocol,
        request=request,
        step=checkpoint.weights.step,
        metrics=dict(metrics),
        details=subject.details,
        env=made_on(checkpoint.device),
        wall_seconds=time.monotonic() - begun,
        judged=judgements(here, subject),
        items=items_of(here, subject) if subject.judged else "",
        made=time.time(),
    )
    made.write(evaluation_file(folder, request.name), folder.id)
    failure_file(folder, request.name).unlink(missing_ok=True)
    folder.event("evaluated", protocol=request.name)
    print(f"evaluated {request.name} in {made.wall_seconds:.1f} s: {in_words(metrics)}")


def loaded(folder: RunFolder, network: str = "teacher", kernels: Kernels | None = None) -> Weights:
    """A network of a run's newest readable checkpoint.

    Args:
        kernels: how it computes; by default as the reference.

    Raises:
        UserError: no checkpoint can be read.
    """
    from repro.dino.fast.kernels import REFERENCE
    from repro.evals.weights.networks import our_weights
    from repro.harness.runs import checkpoint

    found = checkpoint.find(folder.path / "checkpoints", folder.id, frozenset({"step", network}))
    if found.path is None or found.state is None:
        faults = found.faults and f": {found.faults}"
        raise UserError(
            f"{folder.path / 'checkpoints'}: no readable checkpoint to evaluate{faults}"
        )
    if found.damaged:
        print(f"{folder.path.name}: {found.faults}; {found.path.name} is taken")
    return our_weights(found.state, folder.config(), found.path, network, kernels or REFERENCE)


def made_on(device: torch.device) -> dict[str, Any]:
    """What an evaluation says of versions and hardware."""
    return {key: value for key, value in environment(device.type).items() if key != "diff"}


def measure(request: Request, subject: Subject) -> dict[str, float]:
    """The numbers that `request` asks for; those of a benchmark carry its name: `jaccard@voc12`.

    Raises:
        UserError: data that are missing or unreadable, or that do not suit the backbone; weights
            that are not finite, of which rankings and masks would still give some number.
        GpuMemoryError: a GPU without room.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in subject.backbone.state_dict().values()):
        raise UserError(f"{request.protocol}: weights that are not finite: the training diverged")
    with telling_of_memory(subject.device), _telling_of_sizes(subject):
        metrics = PROTOCOLS[request.protocol].measure(request, subject)
    return {f"{key}{_ending(request)}": value for key, value in metrics.items()}


def judgements(request: Request, subject: Subject) -> dict[str, Judged]:
    """What each test item contributed to the numbers that `measure` gave, under their names."""
    return {f"{key}{_ending(request)}": items for key, items in subject.judged.items()}


def _ending(request: Request) -> str:
    return f"@{request.data}" if request.data else ""


@contextmanager
def telling_of_memory(device: torch.device) -> Iterator[None]:
    """Raises: GpuMemoryError, in place of what torch raises where a GPU has no memory left."""
    try:
        yield
    except Exception as error:
        if device.type != "cuda" or not is_out_of_memory(error):
            raise
        from repro.gpu import memory_words

        raise GpuMemoryError(f"out of memory: {memory_words(error, device)}") from error


@contextmanager
def _telling_of_sizes(subject: Subject) -> Iterator[None]:
    """Networks of timm's assert that images have the size that they were made for."""
    try:
        yield
    except AssertionError as error:
        from repro.config.schema import Family

        model = subject.config.model
        if model.family is not Family.timm:
            raise
        line = (str(error).splitlines() or ["images of another size"])[0]
        raise UserError(f"{model.name} does not take these images: {line} (--side)") from error


def in_words(metrics: Mapping[str, float]) -> str:
    """Accuracies in percent; rates, penalties, speed and memory as they are."""

    def with_unit(key: str, value: float) -> str:
        plain = key.partition("@")[0].endswith(("rate", "penalty", "per_second", "GB"))
        return f"{key} {value:g}" if plain else f"{key} {value:.1f} %"

    return ", ".join(with_unit(key, value) for key, value in metrics.items())


def _answered(folder: RunFolder, request: Request) -> bool:
    """Whether its numbers are there, made with the settings that are asked for."""
    made = read_evaluation(evaluation_file(folder, request.name), folder.id)
    return made is not None and made.answers(request)


def evaluation_file(folder: RunFolder, name: str) -> Path:
    return folder.path / "evaluations" / f"{name}.json"


def failure_file(folder: RunFolder, name: str) -> Path:
    return folder.path / "evaluations" / f"{name}.failure.json"
