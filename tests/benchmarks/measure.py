"""How the benchmarks measure: ours, a plain baseline and the hardware's limit, turn by turn.

A benchmark compares and asserts no times. Rounds of the three alternate, the fastest of each
counts, and `extra_info` keeps seconds, ratios and what was compared. `BENCH_DEVICE` (cpu, cuda) and
`BENCH_SIZE` (small, full) choose machine and sizes: the test suite runs everything once at small
size, `make bench` and `make bench-gpu` at full size. Where `BENCH_LINES` names a file, every result
is a line of it as soon as it is there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from repro.config.compose import compose
from repro.config.schema import RunConfig
from repro.dino.fast.kernels import OneDnnLinear
from repro.hardware import cpu_model, keep_freed_memory

DEVICE = torch.device(os.environ.get("BENCH_DEVICE", "cpu"))
FULL = os.environ.get("BENCH_SIZE", "small") == "full"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ROUNDS = 5
MATRIX_SIDE = (8192 if DEVICE.type == "cuda" else 2048) if FULL else 256
BANDWIDTH_BYTES = (2**30 if DEVICE.type == "cuda" else 2**27) if FULL else 2**20
Call = Callable[[], object]


@dataclass(frozen=True)
class Against:
    """What ours is compared with, in words for the table, and how to do it."""

    words: str
    call: Call


def hardware() -> dict[str, Any]:
    """What figures come from; names no machine."""
    return {
        "device": DEVICE.type,
        "size": "full" if FULL else "small",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if DEVICE.type == "cuda" else None,
        "driver": _driver() if DEVICE.type == "cuda" else None,
        "torch": torch.__version__,
    }


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")[0]


def note(name: str, entry: Mapping[str, Any]) -> None:
    """Write a result out at once; a later line of the same name takes its place."""
    if not (path := os.environ.get("BENCH_LINES")):
        return
    with Path(path).open("a") as lines:
        if not lines.tell():
            when = datetime.now(UTC).isoformat()
            lines.write(json.dumps({"hardware": hardware(), "datetime": when}) + "\n")
        lines.write(json.dumps({"name": name, **entry}) + "\n")


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def use_threads(count: int = 0) -> None:
    """Threads of a benchmark: all cores by default, one where the figure is for a core."""
    keep_freed_memory()
    torch.set_num_threads(count or (len(os.sched_getaffinity(0)) if FULL else 1))


def compare(
    benchmark: BenchmarkFixture,
    title: str,
    ours: Call,
    baseline: Against | None = None,
    limit: Against | None = None,
    rounds: int = ROUNDS,
    **more: Any,
) -> dict[str, float]:
    """Seconds of ours, baseline and limit; kept with their ratios and `more` in `extra_info`."""
    calls = {"ours": ours}
    calls |= {"baseline": baseline.call} if baseline else {}
    calls |= {"limit": limit.call} if limit else {}
    seconds = fastest(calls, rounds if benchmark.enabled else 0)
    benchmark.pedantic(ours, rounds=1)
    info = {"title": title, "seconds": seconds, "threads": torch.get_num_threads(), **more}
    if baseline:
        info |= {"baseline": baseline.words, "speedup": seconds["baseline"] / seconds["ours"]}
    if limit:
        info |= {"limit": limit.words, "of_limit": seconds["limit"] / seconds["ours"]}
    benchmark.extra_info.update(info)
    return seconds


def fastest(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Seconds of the fastest of some alternating rounds, after one to warm up (which is all of
    it with no rounds).
    """
    seconds = dict.fromkeys(calls, float("inf"))
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            wait_for_device()
            took = time.perf_counter() - start
            if number or not rounds:
                seconds[name] = min(seconds[name], took)
    return seconds


def wait_for_device() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def config_of(scale: str, small: dict[str, Any], full: dict[str, Any]) -> RunConfig:
    """A scale's config with the overrides of the chosen size."""
    chosen = {"resources.device": DEVICE.type} | (full if FULL else small)
    return compose(EXPERIMENTS, scale, chosen)


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations a second of large matrix products: the hardware's practical ceiling."""
    side, count = MATRIX_SIDE, 4 if DEVICE.type == "cuda" else 1
    a = torch.randn(side, side, device=DEVICE).to(dtype)
    b = torch.randn(side, side, device=DEVICE).to(dtype)
    calls: dict[str, Call] = {"torch": lambda: [a @ b for _ in range(count)]}
    if DEVICE.type == "cpu" and dtype is torch.float32:
        calls["onednn"] = lambda: OneDnnLinear.apply(a, b, None)
    with torch.no_grad():
        return count * 2 * side**3 / min(fastest(calls, 2 * ROUNDS).values())


def bandwidth() -> float:
    """Bytes a second of copying memory, read and written."""
    source = torch.empty(BANDWIDTH_BYTES // 4, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * BANDWIDTH_BYTES / fastest({"copy": lambda: target.copy_(source)}, ROUNDS)["copy"]
