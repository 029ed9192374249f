"""A run small enough to train in a test: the smoke scale, with drop path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from repro.compose import compose
from repro.config import RunConfig
from repro.data.datasets import Dataset, open_dataset

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def smoke_config() -> RunConfig:
    return compose(EXPERIMENTS, "smoke", {"model.drop_path": 0.1})


@pytest.fixture(scope="session")
def smoke_data() -> Dataset:
    return open_dataset(compose(EXPERIMENTS, "smoke").data, "")
