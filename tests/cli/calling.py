"""Calling commands as people and scripts do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from repro.cli.parser import main
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.plan.plan import plan
from repro.harness.runs.store import RunFolder, create_run

ONE_THREAD = ("--workers", str(os.cpu_count()))  # tests run in parallel; the cores are taken
CLUSTER = SlurmCluster(name="mine", gpus=1, cpus=4, memory_gb=16, minutes=90, parallel=2)


def json_of(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main([*argv, "--json"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    return json.loads(out.out)


def mistake(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a user's mistake gives."""
    assert main(argv) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith("repro: error: ")
    assert out.err.count("\n") == 1
    return out.err


def make(results: Path, seeds: int = 2) -> list[RunFolder]:
    runs = plan(["F7"], "smoke", seeds, results).runs
    return [create_run(results / "runs", run.slug, run.config) for run in runs]
