"""Shared by all tests: one thread a process, and run folders of the smoke scale."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.compose import compose
from repro.config import RunConfig

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
