"""Compiled blocks on a GPU. They take torch half a minute to make, so this is the last test."""

from __future__ import annotations

import pytest
import torch

from repro.config.schema import CodePath, Precision
from tests.gpu.correctness.conftest import Figures
from tests.gpu.correctness.test_parts import crops, distances, features_and_gradients, small_vit

pytestmark = pytest.mark.gpu


def test_compiled_blocks_are_blocks(cuda: torch.device, figures: Figures) -> None:
    found = []
    for chosen in (False, True):
        vit = small_vit(CodePath.fast, Precision.fp32, cuda, 0.2, compile=chosen)
        found.append(features_and_gradients(vit, crops(), Precision.fp32, cuda))
    figures |= distances(found[1], found[0])
    assert figures["worst"] < 1e-4
