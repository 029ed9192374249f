"""Out of a GPU's memory: what is tried, in which order, and what is told."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from repro import gpu
from repro.config.schema import RunConfig
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset
from repro.harness.runs.failures import FailureKind, GpuMemoryError, failure_of
from repro.harness.worker import fitting
from repro.harness.worker.fitting import candidates, naming_what_fits, search, steps_fit
from tests.conftest import MakeConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ASKED = "CUDA out of memory. Tried to allocate 2.00 GiB."


def holds(gigabytes: float, weights: float, of_batch: float, of_part: float) -> Callable:  # type: ignore[type-arg]
    """A card whose steps take weights, something of the whole batch and something of a part."""

    def fits(config: RunConfig) -> bool:
        batch, parts = config.train.batch_size, config.resources.accumulate
        return weights + of_batch * batch + of_part * batch / parts <= gigabytes

    return fits


def batch_of(config: RunConfig, size: int) -> RunConfig:
    return replace(config, train=replace(config.train, batch_size=size))


@pytest.mark.parametrize(
    ("gigabytes", "fits", "words"),
    [
        (200, None, "the same step fits by now: repro retry --only oom"),
        (80, "resources.accumulate=2", "resources.accumulate=2 fits, the same batch in parts"),
        (40, "resources.accumulate=4", "resources.accumulate=4 fits, the same batch in parts"),
        (17, "resources.accumulate=16", "resources.accumulate=16 fits, the same batch in parts"),
        (11, "train.batch_size=16", "train.batch_size=16 fits, another batch"),
        (4, None, "not even train.batch_size=1 fits"),
    ],
)
def test_the_fewest_parts_that_fit_come_before_any_smaller_batch(
    smoke: MakeConfig, gigabytes: float, fits: str | None, words: str
) -> None:
    config = batch_of(smoke({}), 512)
    assert search(config, holds(gigabytes, 5, 0.01, 0.2)) == (fits, words)


def test_a_network_with_batch_norm_is_offered_smaller_batches_only(smoke: MakeConfig) -> None:
    config = batch_of(smoke({"head.batch_norm": "true", "head.layers": 2}), 64)
    assert {key for key, _, _ in candidates(config)} == {"train.batch_size"}
    assert search(config, holds(10, 5, 0, 0.2))[0] == "train.batch_size=16"


def test_parts_divide_the_batch_and_are_more_than_before(smoke: MakeConfig) -> None:
    config = batch_of(smoke({}), 72)
    config = replace(config, resources=replace(config.resources, accumulate=3))
    tried = [value for key, value, _ in candidates(config) if key == "resources.accumulate"]
    assert tried == [6, 12, 24]


def test_the_search_ends_after_its_time(smoke: MakeConfig) -> None:
    config = batch_of(smoke({}), 64)
    found = search(config, lambda _: False, seconds=-1)
    assert found == (None, "tried for -1 s: nothing fits")


@pytest.fixture(scope="module")
def data(smoke: MakeConfig) -> tuple[RunConfig, Dataset]:
    config = smoke({})
    return config, open_dataset(config.data, config.paths.data, config.resources, CPU)


def test_steps_are_real_ones_of_the_config_that_is_tried(
    data: tuple[RunConfig, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, dataset = data
    made: list[int] = []
    split = type(dataset.train)
    views = split.view_batches

    def counted(self: object, batches: list[Tensor], *rest: object) -> Iterator[list[Tensor]]:
        for batch, of_batch in zip(batches, views(self, batches, *rest), strict=True):  # type: ignore[arg-type]
            made.append(len(batch))
            yield of_batch

    monkeypatch.setattr(split, "view_batches", counted)
    divided = replace(config, resources=replace(config.resources, accumulate=2))
    for candidate in (batch_of(config, 8), divided):
        assert steps_fit(candidate, dataset, CPU)
    assert set(made) == {8, config.train.batch_size}


def test_a_step_that_finds_no_memory_does_not_fit(
    data: tuple[RunConfig, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, dataset = data
    monkeypatch.setattr(type(dataset.train), "view_batches", lambda *_: torch.empty(2**50))
    assert not steps_fit(config, dataset, CPU)


def test_the_failure_names_the_card_and_what_fits_after_all_is_let_go(
    data: tuple[RunConfig, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, dataset = data
    monkeypatch.setattr(gpu, "memory_words", lambda *_: "2.00 GiB more, on H200")
    held: list[weakref.ref[Tensor]] = []
    alive_in_the_search: list[bool] = []

    def fits(candidate: RunConfig, *_: object) -> bool:
        gc.collect()
        alive_in_the_search.append(held[0]() is not None)
        return candidate.resources.accumulate == 2

    def train() -> None:
        activations = torch.ones(3)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError(ASKED)

    monkeypatch.setattr(fitting, "steps_fit", fits)
    with pytest.raises(GpuMemoryError) as caught, naming_what_fits(config, dataset, CUDA):
        train()
    assert alive_in_the_search == [False, False]
    failure = failure_of(caught.value, step=4)
    assert failure.kind is FailureKind.out_of_memory
    assert failure.line == (
        "out of memory: 2.00 GiB more, on H200; resources.accumulate=2 fits, the same batch in "
        "parts"
    )
    assert failure.fits == ["resources.accumulate=2"]
    assert ASKED in failure.traceback
    assert failure.step == 4


def test_an_evaluation_without_memory_is_not_told_to_divide_its_batch(
    data: tuple[RunConfig, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    from repro.evals.features.layers import joined

    config, dataset = data
    monkeypatch.setattr(gpu, "memory_words", lambda *_: "on H200")
    monkeypatch.setattr(fitting, "steps_fit", lambda *_: pytest.fail("tried"))

    def batches() -> Iterator[Tensor]:
        raise torch.OutOfMemoryError(ASKED)
        yield

    with (
        pytest.raises(GpuMemoryError, match="it was evaluating") as caught,
        naming_what_fits(config, dataset, CUDA),
    ):
        list(joined(batches(), 1))
    assert caught.value.fits == []


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_other_errors_pass_as_they_are(
    data: tuple[RunConfig, Dataset], device: torch.device
) -> None:
    with pytest.raises(ValueError, match="a bug"), naming_what_fits(*data, device):
        raise ValueError("a bug")


def test_a_machine_without_memory_is_told_as_before(data: tuple[RunConfig, Dataset]) -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"), naming_what_fits(*data, CPU):
        torch.empty(2**50)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "NCCL error: unhandled cuda error, Cuda failure 2 'out of memory'",
    ],
)
def test_libraries_without_memory_are_understood(words: str) -> None:
    assert failure_of(RuntimeError(words), 1).kind is FailureKind.out_of_memory
    assert failure_of(ValueError(words), 1).kind is FailureKind.code
