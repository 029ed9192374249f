"""Twenty steps of the authors' code, computed on a GPU in fp32, bfloat16 and TF32."""

from __future__ import annotations

import pytest
import torch

from repro.config.schema import CodePath, Precision
from tests.fidelity.trajectory import GOLDEN, apart, losses_of, trainer_at_the_start
from tests.gpu.correctness.conftest import Figures, allow_tf32

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
PATHS = pytest.mark.parametrize("path", list(CodePath), ids=lambda path: path.value)
# A product's inputs are rounded to this share of themselves, logits among them, which the teacher's
# temperature of 0.04 then divides: 25 times as much. AdamW turns a rounding error of a small
# gradient into a step of the size of the rate, 2e-3, at each of twenty steps, so that such an entry
# may end 0.04 apart.
ROUNDING = {"bf16": 2**-8, "tf32": 2**-11}
TEMPERED = 1 / 0.04
ENTRY_APART = 0.04


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


@PATHS
def test_bfloat16_stays_as_close_to_the_authors_as_its_rounding_allows(
    path: CodePath, device: torch.device, figures: Figures
) -> None:
    figures |= distances(path, device, Precision.bf16)
    figures |= {f"{k}_cpu": v for k, v in distances(path, CPU, Precision.bf16).items()}
    assert figures["loss"] < TEMPERED * ROUNDING["bf16"]
    assert figures["entry"] < ENTRY_APART


@PATHS
def test_tf32_stays_as_close_to_the_authors_as_its_rounding_allows(
    path: CodePath, device: torch.device, figures: Figures
) -> None:
    allow_tf32(True)
    figures |= distances(path, device, Precision.fp32)
    assert figures["loss"] < TEMPERED * ROUNDING["tf32"]
    assert figures["entry"] < ENTRY_APART
