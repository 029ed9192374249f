"""Shared by all tests: one thread a process, and run folders of the smoke scale."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from repro.config.compose import compose
from repro.config.schema import RunConfig
from repro.harness.runs.store import RunFolder, create_run

if TYPE_CHECKING:
    from repro.data.dataset import Dataset

MakeConfig = Callable[..., RunConfig]


def pytest_configure() -> None:
    # Before torch is imported, here and in the processes that tests start.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def smoke(repository: Path) -> MakeConfig:
    """smoke({"train.epochs": 3}) is a run of seconds on the CPU."""

    def make(overrides: dict[str, Any] | None = None) -> RunConfig:
        return compose(
            repository / "experiments", "smoke", {"resources.device": "cpu"} | (overrides or {})
        )

    return make


@pytest.fixture
def smoke_config(repository: Path) -> RunConfig:
    """The smoke scale, with drop path: small enough to train in a test."""
    return compose(repository / "experiments", "smoke", {"model.drop_path": 0.1})


@pytest.fixture(scope="session")
def smoke_data(repository: Path) -> Dataset:
    from repro.data.datasets import open_dataset

    return open_dataset(compose(repository / "experiments", "smoke").data, "")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    """A run that was really trained, for the protocols to evaluate."""
    from tests.harness.processes import train

    folder = create_run(tmp_path_factory.mktemp("results") / "runs", "one", smoke())
    code, output = train(folder)
    assert code == 0, output
    return folder
