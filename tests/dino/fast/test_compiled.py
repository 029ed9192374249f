"""Kernels of GPUs compile where there is none; whether they are right, tests of each one tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")  # torch brings it on Linux alone
KERNELS = {
    "triton_rows": {"_add_norm", "_add_norm_backward", "_bias_gelu", "_bias_gelu_backward"},
    "triton_attention": {"_attend", "_gradients"},
    "triton_loss": {"_log_sums", "_gradients"},
    "triton_views": {"_crop_and_colour", "_blur_and_normalise"},
}


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_for_a_card_that_is_not_there(
    capability: int, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    command = [sys.executable, "-m", "tests.dino.fast.compiled", str(capability)]
    made = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    expected = {f"{module}.{name}" for module, names in KERNELS.items() for name in names}
    assert set(made.stdout.split()) == expected


def test_every_module_of_kernels_is_compiled(repository: Path) -> None:
    assert {file.stem for file in (repository / "repro").rglob("triton_*.py")} == set(KERNELS)
