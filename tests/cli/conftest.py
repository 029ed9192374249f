"""A store of results of its own, and a terminal that nobody sits at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from repro.harness.plan.plan import plan
from repro.harness.runs.store import RunFolder, create_run


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Path("/dev/null").open())  # noqa: SIM115


@pytest.fixture
def queued(results: Path) -> RunFolder:
    (run,) = plan(["F7:both"], "smoke", 1, results).runs
    return create_run(results / "runs", run.slug, run.config)
