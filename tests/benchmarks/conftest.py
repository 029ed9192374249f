"""The benchmarks' JSON says what hardware it comes from, and names no machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks import measure


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    return measure.hardware()


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


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """What was compared, written out as soon as it is; and why it was not."""
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    if call.when == "call" and benchmark is not None:
        failure = {"error": measure.one_line(call.excinfo.value)} if call.excinfo else {}
        measure.note(item.name, {**benchmark.extra_info, **failure})
