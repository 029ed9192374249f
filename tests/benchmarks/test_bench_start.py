"""How long a person waits before anything happens: the help, and composing a config."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from repro.compose import compose
from repro.harness.identity import run_id

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_repro_help(benchmark: BenchmarkFixture) -> None:
    command = [sys.executable, "-m", "repro.cli", "--help"]

    def help_text() -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "repro" in benchmark.pedantic(help_text, rounds=10, warmup_rounds=1)


def test_composing_and_hashing_a_config(benchmark: BenchmarkFixture) -> None:
    overrides = {"teacher.kind": "student_copy"}
    identity = benchmark(lambda: run_id(compose(EXPERIMENTS, "paper", overrides)))
    assert len(identity) == 10
