"""What a step asks of the card, from torch's profiler: launches, host synchronisations, kernels."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from tests.benchmarks.measure import DEVICE, wait_for_device

STEPS = 2
MARK = "a measured step"
COSTLIEST = 15
ON_THE_CARD = {"kernel", "gpu_memcpy", "gpu_memset"}
CALLS = {"cuda_runtime", "cuda_driver"}
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cuGraphLaunch")
# Calls that return when the card is done; `.item()` is a copy and a cudaStreamSynchronize.
WAITS = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy",
         "cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize"}  # fmt: skip
NOISE = ("void ", "at::native::", "at::cuda::", "(anonymous namespace)::", "<unnamed>::", "at::")


@dataclass(frozen=True)
class Profile:
    """Of one step; empty where the profiler sees no card."""

    kernels: float  # that ran on the card
    launches: float  # calls that started one, or a graph of them
    copies: float  # to, from and on the card, fillings with a byte included
    synchronisations: float  # calls in which the host waited for the card
    busy_seconds: float  # in which the card did anything
    costliest: list[tuple[str, float, float]]  # kernel, how often, milliseconds


def profile_step(step: Callable[[], object]) -> dict[str, Any]:
    """Under the profiler a step takes longer; the card's own times hardly do."""
    activities = [ProfilerActivity.CPU]
    if DEVICE.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        with profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=1, active=1, repeat=1),
            on_trace_ready=lambda done: done.export_chrome_trace(str(file)),
            acc_events=True,
        ) as profiler:
            step()
            wait_for_device()
            profiler.step()
            for _ in range(STEPS):
                with record_function(MARK):
                    step()
            wait_for_device()
            profiler.step()
        events = json.loads(file.read_text())["traceEvents"]
    return asdict(read_trace(events)) | {"waiting_lines": waiting_lines(step)}


def read_trace(events: Iterable[dict[str, Any]]) -> Profile:
    """A step's share of a trace of steps that are marked."""
    complete = [event for event in events if event.get("ph") == "X"]
    marks = [e for e in complete if e.get("cat") == "user_annotation" and e["name"] == MARK]
    first, last = min(e["ts"] for e in marks), max(e["ts"] + e["dur"] for e in marks)
    calls = [e["name"] for e in complete if e.get("cat") in CALLS and first <= e["ts"] <= last]
    work = [e for e in complete if e.get("cat") in ON_THE_CARD and e["ts"] >= first]
    kernels = [e for e in work if e["cat"] == "kernel"]
    steps = len(marks)
    return Profile(
        kernels=len(kernels) / steps,
        launches=sum(name.startswith(LAUNCHES) for name in calls) / steps,
        copies=(len(work) - len(kernels)) / steps,
        synchronisations=sum(name in WAITS for name in calls) / steps,
        busy_seconds=_covered((e["ts"], e["ts"] + e["dur"]) for e in work) / steps / 1e6,
        costliest=_costliest(work, steps),
    )


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _costliest(work: list[dict[str, Any]], steps: int) -> list[tuple[str, float, float]]:
    counts: Counter[str] = Counter()
    microseconds: Counter[str] = Counter()
    for event in work:
        name = _short(event["name"])
        counts[name] += 1
        microseconds[name] += event["dur"]
    return [
        (name, counts[name] / steps, round(spent / steps / 1e3, 4))
        for name, spent in microseconds.most_common(COSTLIEST)
    ]


def _short(name: str) -> str:
    for noise in NOISE:
        name = name.replace(noise, "")
    return name[:100]


def waiting_lines(step: Callable[[], object]) -> dict[str, int]:
    """Where torch says that a step waits for the card: Python's file and line, how often."""
    if DEVICE.type != "cuda":
        return {}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = [w for w in seen if "synchronizing CUDA operation" in str(w.message)]
    return dict(Counter(f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}" for w in found))
