"""What is read off a profiler's trace, and what a part that hangs costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.gpu.__main__ import tell_profiles
from tests.benchmarks.gpu.trace import MARK, read_trace

PARTS = """
import os, sys
from tests.benchmarks.gpu.__main__ import Part, run
for name, limit in (("one that hangs", 6.0), ("one that fails", 60.0), ("one that is well", 60.0)):
    run(Part(name, limit, (sys.argv[1],), name.split()[-1]), limit)
"""
TESTS = """
import os, pathlib, subprocess, time
def test_hangs(benchmark):
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path(os.environ["CHILD"]).write_text(str(child.pid))
    time.sleep(600)
def test_fails(benchmark):
    benchmark(lambda: 1 / 0)
def test_well(benchmark):
    benchmark.pedantic(lambda: None)
"""


def event(cat: str, name: str, ts: float, dur: float) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur}


def test_a_trace_is_counted_by_the_step_from_its_marks_on() -> None:
    """Two steps of 100 us; what lies before them and the wait after them is nobody's."""
    trace = [
        {"ph": "M", "name": "process_name"},
        event("kernel", "void before()", 0, 50),
        event("user_annotation", MARK, 100, 100),
        event("user_annotation", MARK, 200, 100),
        event("cuda_runtime", "cudaLaunchKernel", 110, 1),
        event("cuda_driver", "cuLaunchKernelEx", 120, 1),
        event("cuda_runtime", "cudaGraphLaunch", 210, 1),
        event("cuda_runtime", "cudaMemcpyAsync", 220, 1),
        event("cuda_runtime", "cudaStreamSynchronize", 230, 60),
        event("cuda_runtime", "cudaDeviceSynchronize", 301, 60),
        event("kernel", "void at::native::gelu(float*)", 130, 40),
        event("kernel", "void at::native::gelu(float*)", 220, 20),
        event("kernel", "gemm", 150, 40),  # beside the first for 20 us
        event("gpu_memcpy", "Memcpy DtoH", 310, 10),  # after the host had gone on
        event("gpu_user_annotation", "Optimizer.step", 130, 100),
    ]
    profile = read_trace(trace)
    assert (profile.kernels, profile.launches, profile.copies) == (1.5, 1.5, 0.5)
    assert profile.synchronisations == 0.5
    assert profile.busy_seconds == pytest.approx((60 + 20 + 10) / 2 / 1e6)
    assert profile.costliest == [
        ("gelu(float*)", 1.0, 0.03), ("gemm", 0.5, 0.02), ("Memcpy DtoH", 0.5, 0.005),
    ]  # fmt: skip


def test_a_part_that_hangs_costs_only_itself(tmp_path: Path, repository: Path) -> None:
    lines, child, tests = tmp_path / "lines.jsonl", tmp_path / "child", tmp_path / "test_three.py"
    tests.write_text(TESTS)
    outer = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment = outer | {"BENCH_LINES": str(lines), "CHILD": str(child)}
    command = [sys.executable, "-c", PARTS, str(tests)]
    done = subprocess.run(
        command, env=environment, cwd=repository, stdout=subprocess.PIPE, text=True, check=True
    )
    outcomes = [line for line in done.stdout.splitlines() if line.startswith("benchmarks: ")]
    words = [line.removeprefix("benchmarks: ").partition(",")[0] for line in outcomes]
    assert words == [
        "one that hangs: ended at its limit", "one that fails: FAILED", "one that is well: ok",
    ]  # fmt: skip
    _, hanging, failing = map(json.loads, lines.read_text().splitlines())
    assert hanging == {"name": "part one that hangs", "error": "ended after 6 s"}
    assert failing["name"] == "part one that fails"
    assert not Path(f"/proc/{child.read_text()}").exists()  # nor what it had started


def test_where_a_steps_time_goes_is_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {
        "kernels": 2.0, "launches": 1.0, "copies": 1.0, "synchronisations": 1.0,
        "busy_seconds": 0.02, "busy_share": 0.8, "costliest": [("gemm", 2.0, 19.5)],
        "waiting_lines": {"dino/diagnostics.py:7": 1},
    }  # fmt: skip
    elsewhere = measured | {"kernels": 0.0}  # where the profiler saw no card
    tell_profiles({"ours": {"profile": measured}, "x": {"profile": elsewhere}, "y": {"error": ""}})
    head, row = capsys.readouterr().out.splitlines()
    assert head.startswith("ours: 2 kernels, 1 launches, 1 copies, 1.0 waits")
    assert head.endswith("busy 20.00 ms, 80%")
    assert row.split() == ["19.500", "ms", "2", "x", "gemm"]
