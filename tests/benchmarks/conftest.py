"""The benchmarks' JSON says what hardware it comes from, and names no machine."""

from __future__ import annotations

import os
from typing import Any

import pytest

from repro.hardware import cpu_model
from tests.benchmarks import measure


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    import torch

    cuda = measure.DEVICE.type == "cuda"
    return {
        "device": measure.DEVICE.type,
        "size": "full" if measure.FULL else "small",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "torch": torch.__version__,
    }


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    return {}


def pytest_benchmark_update_json(
    config: pytest.Config,
    benchmarks: list[Any],
    output_json: dict[str, Any],
) -> None:
    """Keep what was compared; the times are in it."""
    kept = [{"name": b["name"], **b["extra_info"]} for b in output_json["benchmarks"]]
    hardware, when = output_json["machine_info"], output_json["datetime"]
    output_json.clear()
    output_json.update(hardware=hardware, datetime=when, benchmarks=kept)
