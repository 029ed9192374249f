"""What a GPU computes, held to the CPU; run by `make gpu`, or with

    REPRO_TEST_DEVICE=cuda pytest -m gpu -n 4 tests/gpu/correctness

With REPRO_TEST_DEVICE=cpu the CPU is held to itself, which proves these tests where there is no
GPU. Without the variable they are left out. What they measure is appended to the file that
GPU_FIGURES names, a line of JSON a test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from repro.hardware import available_cores

CHOSEN = os.environ.get("REPRO_TEST_DEVICE", "")
SIDE_BY_SIDE = 4  # processes of tests
Figures = dict[str, Any]

if CHOSEN:
    # cuBLAS reads it once, before its first product; deterministic algorithms ask for it.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


# The most telling first, in case that time runs out.
ORDER = ("golden", "kernels", "steps", "parts", "evaluations", "one_rank", "runs", "compiled")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if CHOSEN:
        items.sort(key=_turn)  # which keeps the order within a file
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


def _turn(item: pytest.Item) -> int:
    words = item.path.stem.removeprefix("test_")
    return ORDER.index(words) if words in ORDER else len(ORDER)


@pytest.fixture(scope="session")
def device() -> torch.device:
    assert CHOSEN in ("cpu", "cuda"), f"REPRO_TEST_DEVICE={CHOSEN}: cpu or cuda"
    torch.set_num_threads(max(1, available_cores() // SIDE_BY_SIDE))
    if CHOSEN == "cuda":
        torch.cuda.set_device(0)
    return torch.device(CHOSEN)


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    if device.type != "cuda":
        pytest.skip("no CPU has this; it is not rehearsed")
    return device


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """What a test has measured; written even where the test fails."""
    found: Figures = {}
    yield found
    for name, value in found.items():
        request.node.user_properties.append((name, value))
    if path := os.environ.get("GPU_FIGURES"):
        line = json.dumps({"name": request.node.name, "device": CHOSEN, "figures": found})
        with Path(path).open("a") as file:
            file.write(line + "\n")


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Products in whole fp32, also where a library's default is TF32."""
    allow_tf32(False)
    yield
    allow_tf32(False)


def allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def far(ours: Tensor, truth: Tensor) -> float:
    """The largest difference, as a share of the largest entry of the truth."""
    truth = truth.detach().double().cpu()
    difference = (ours.detach().double().cpu() - truth).abs().max()
    return float(difference / truth.abs().max().clamp(min=1e-30))
