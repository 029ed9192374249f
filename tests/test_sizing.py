"""The rules for small data sets, and the scales that follow them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.config.compose import compose, parse_assignments
from repro.config.schema import PHOTOGRAPHS
from repro.harness.experiments.folders import experiments_dir
from repro.sizing import size_to


@pytest.mark.parametrize("scale", ["laptop", "gpu"])
def test_the_small_scales_follow_the_rules(scale: str) -> None:
    config = compose(experiments_dir(), scale)
    images = len(PHOTOGRAPHS) * config.data.train_tiles
    for key, value in size_to(images, config.train.epochs, config.train.batch_size).items():
        section, name = key.split(".")
        assert getattr(getattr(config, section), name) == pytest.approx(value), key


@given(st.integers(100, 2_000_000), st.integers(1, 800), st.integers(1, 100))
def test_the_rules_stay_within_what_can_train(images: int, epochs: int, batch: int) -> None:
    sized = size_to(images, epochs, batch)
    assert 16 <= sized["head.prototypes"] <= 65536
    assert 0.9 <= sized["teacher.momentum"] <= 0.9995
    assert 1 <= sized["optim.warmup_epochs"] <= max(1, epochs)


def test_more_data_mean_more_prototypes_and_a_slower_teacher() -> None:
    small, large = size_to(2_000, 50, 64), size_to(200_000, 50, 64)
    assert small["head.prototypes"] < large["head.prototypes"]
    assert small["teacher.momentum"] < large["teacher.momentum"]


def test_the_printed_overrides_are_what_train_accepts() -> None:
    command = [sys.executable, "-m", "repro.sizing", "--images", "12000", "--epochs", "100"]
    said = subprocess.run([*command, "--batch", "64"], capture_output=True, text=True, check=True)
    overrides = parse_assignments(said.stdout.split())
    config = compose(experiments_dir(), "laptop", {**overrides, "train.epochs": 100})
    assert (config.head.prototypes, config.teacher.momentum) == (256, 0.999)
