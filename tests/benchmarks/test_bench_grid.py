"""2,000 runs on a cluster: plan, submit, status; the real store, SLURM's answers scripted.

Whole commands, as a person waits for them, beside what starting `repro` at all takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.measure import FULL, Against, compare
from tests.harness.scripted import Scripted, all_waiting, scripted

__all__ = ["scripted"]
# The runs of all experiments at laptop scale, for so many seeds: 70 a seed.
GRID = ("all", "--scale", "laptop", "--seeds", "29") if FULL else ("F7", "--scale", "laptop")
PROFILE = {"kind": "slurm", "gpus": 1, "cpus": 4, "memory_gb": 16, "minutes": 60}


@pytest.fixture
def grid(scripted: Scripted, tmp_path: Path) -> Scripted:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(PROFILE))
    return scripted


def repro(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "repro.cli", *words]
    environment = os.environ | {"REPRO_RESULTS": str(folder / "results")}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_two_thousand_runs(benchmark: BenchmarkFixture, grid: Scripted, tmp_path: Path) -> None:
    where = ("--cluster", str(tmp_path / "mine.yaml"))
    planned = json.loads(repro(tmp_path, "plan", *GRID, *where, "--json"))
    runs = planned["todo"]
    assert runs >= (2000 if FULL else 4)
    starting = Against("starting repro", lambda: repro(tmp_path, "--help"))
    compare(
        benchmark, f"repro plan, {runs} runs", lambda: repro(tmp_path, "plan", *GRID, *where),
        limit=starting, rounds=2,
    )  # fmt: skip


def test_submitting_two_thousand_runs(
    benchmark: BenchmarkFixture, grid: Scripted, tmp_path: Path
) -> None:
    where = ("--cluster", str(tmp_path / "mine.yaml"))

    def submit() -> None:
        repro(tmp_path, "submit", *GRID, *where, "--yes")

    compare(benchmark, f"repro submit, {GRID[0]}", submit, rounds=0)
    files = len(list((tmp_path / "results" / "runs").iterdir())) - 1  # and a lock
    sbatch_calls = len(grid.scripts)
    assert sbatch_calls <= 10
    benchmark.extra_info.update(runs=files, sbatch_calls=sbatch_calls)


def test_status_of_two_thousand_runs(
    benchmark: BenchmarkFixture, grid: Scripted, tmp_path: Path
) -> None:
    where = ("--cluster", str(tmp_path / "mine.yaml"))
    repro(tmp_path, "submit", *GRID, *where, "--yes")
    grid.answer("squeue", all_waiting(tmp_path / "results"))
    assert "queued" in repro(tmp_path, "status")
    compare(
        benchmark, f"repro status, {GRID[0]}", lambda: repro(tmp_path, "status"),
        limit=Against("starting repro", lambda: repro(tmp_path, "--help")), rounds=2,
    )  # fmt: skip
    benchmark.extra_info.update(runs=len(json.loads(repro(tmp_path, "status", "--json"))["runs"]))
