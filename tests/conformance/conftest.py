"""A run of the smoke scale, small enough to train in a test, and its data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from repro.config.compose import compose
from repro.config.schema import RunConfig
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config() -> RunConfig:
    return compose(EXPERIMENTS, "smoke")


@pytest.fixture(scope="session")
def data() -> Dataset:
    return open_dataset(compose(EXPERIMENTS, "smoke").data, "")
