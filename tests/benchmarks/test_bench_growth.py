"""Cost against work: how a step grows with each dimension, and `repro status` with the store.

`slope` is that of the line through the last half of the points, both axes in logarithms: 1 is
proportional.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from repro.cli.runs.look import look
from repro.harness.runs.store import create_run
from tests.benchmarks.measure import FULL, config_of, fastest, use_threads
from tests.benchmarks.test_bench_step import random_views, stepper, trainer_of

# A small network on larger views, so that every axis has room: 1 to 64 images, 4 to 256 tokens.
BASE = {"data.resolution": 64, "views.global_size": 64, "views.local_size": 32,
        "train.batch_size": 16, "model.patch_size": 8}  # fmt: skip
AXES: dict[str, tuple[str, list[int]]] = {
    "images of a batch": ("train.batch_size", [2, 4, 8, 16, 32, 64]),
    "prototypes": ("head.prototypes", [64, 512, 4096, 16384, 65536]),
    "local crops": ("views.local_number", [0, 2, 4, 8, 16]),
    "patch size": ("model.patch_size", [32, 16, 8, 4]),
}


def record(
    benchmark: BenchmarkFixture, axis: str, what: str, calls: dict[int, Callable[[], Any]]
) -> None:
    if not FULL:
        calls = dict(list(calls.items())[-2:])
    seconds = [fastest({"ours": call}, 3 if FULL else 0)["ours"] for call in calls.values()]
    half = (len(calls) - 1) // 2
    xs, ys = np.log(list(calls)[half:]), np.log(seconds[half:])
    slope = float(np.polyfit(xs, ys, 1)[0])
    benchmark.extra_info.update(
        title=f"{what} against {axis}", axis=axis, at=list(calls), growth=seconds, slope=slope
    )
    benchmark.pedantic(next(iter(calls.values())), rounds=1)


@pytest.mark.parametrize("axis", AXES)
def test_step(benchmark: BenchmarkFixture, axis: str) -> None:
    use_threads()
    key, values = AXES[axis]

    def step_with(value: int) -> Callable[[], Any]:
        def once() -> None:
            if not made:  # only now, so that no two of them hold their memory
                config = config_of("laptop", {**BASE, key: value}, {**BASE, key: value})
                made.append(stepper(trainer_of(config), random_views(config)))
            made[0]()

        made: list[Callable[[], Any]] = []
        return once

    record(benchmark, axis, "training step", {value: step_with(value) for value in values})


def test_status(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    use_threads(1)
    config = config_of("laptop", {}, {})

    def described(results: Path) -> Callable[[], Any]:
        return lambda: look([], results)

    calls = {}
    for count in (10, 30, 100, 300, 1000) if FULL else (2, 4):
        results = tmp_path / str(count)
        for seed in range(count):
            create_run(results / "runs", f"bench-s{seed}", replace(config, seed=seed))
        calls[count] = described(results)
    record(benchmark, "runs in the store", "repro status", calls)
