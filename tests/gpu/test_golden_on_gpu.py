"""Twenty steps of the authors' code, computed on a GPU in fp32, bfloat16 and TF32."""

from __future__ import annotations

import pytest
import torch

from repro.config.schema import CodePath, Precision
from tests.fidelity.trajectory import GOLDEN, apart, losses_of, trainer_at_the_start
from tests.gpu.conftest import Figures

pytestmark = pytest.mark.gpu

PATHS = pytest.mark.parametrize("path", list(CodePath), ids=lambda path: path.value)
STEPS = len(GOLDEN["losses"])


def distances(path: CodePath, device: torch.device, precision: Precision) -> dict[str, float]:
    """The worst relative distance of a loss, of a final tensor's norm, and of an entry."""
    trainer = trainer_at_the_start(path, device, precision)
    pairs = zip(losses_of(trainer), GOLDEN["losses"], strict=True)
    ends = [apart(name, trainer) for name in GOLDEN["final"]]
    return {
        "loss": max(abs(ours - theirs) / theirs for ours, theirs in pairs),
        "norm": max(end.norm for end in ends),
        "entry": max(end.entry for end in ends),
    }


@PATHS
def test_fp32_ends_where_the_authors_do_within_the_tolerances_of_the_cpu(
    path: CodePath, device: torch.device, figures: Figures
) -> None:
    figures |= distances(path, device, Precision.fp32)
    assert figures["loss"] < 1e-5
    assert figures["norm"] <= 1e-4
    assert figures["entry"] < 1e-4
