"""Records: binned curves, and evidence from finished runs only."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.config.identity import canonical
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.files import append_lines, write_json
from repro.harness.runs.records import BINS, curves, read_records, record
from repro.harness.runs.store import create_run

RESULT: dict[str, Any] = {
    "metrics": {"knn": 71.5},
    "sentinel": {"state": "healthy"},
    "counts": {"steps": 2},
    "wall_seconds": 3.0,
}


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200))
def test_curves_are_means_over_equal_bins_of_steps(losses: list[float]) -> None:
    events = [
        {"kind": "step", "step": i + 1, "epoch": (i + 1) / 8, "loss": v, "sentinel": "healthy"}
        for i, v in enumerate(losses)
    ]
    made = curves(events)
    n, bins = len(losses), min(BINS, len(losses))
    assert set(made) == {"epoch", "loss", "eval"}
    assert len(made["loss"]) == len(made["epoch"]) == bins
    bounds = [math.ceil(i * n / bins) for i in range(bins + 1)]
    sizes = [b - a for a, b in pairwise(bounds)]
    assert max(sizes) - min(sizes) <= 1
    for value, (low, high) in zip(made["loss"], pairwise(bounds), strict=True):
        mean = sum(losses[low:high]) / (high - low)
        assert value == pytest.approx(mean, rel=1e-5, abs=1e-9)


def test_curves_leave_out_what_was_not_finite_and_keep_evaluations_as_they_are() -> None:
    events = [{"kind": "step", "step": i, "loss": 1.0 if i % 2 else None} for i in range(1, 121)]
    events.append({"kind": "eval", "step": 120, "epoch": 2, "knn": 71.23456789, "student_knn": 70})
    made = curves(events)
    assert made["loss"] == [1.0] * BINS
    assert made["eval"] == {"epoch": [2], "knn": [71.23456789], "student_knn": [70]}


def test_a_record_holds_the_evidence_and_only_a_finished_run_has_one(tmp_path: Path) -> None:
    folder = create_run(tmp_path / "runs", "F7-both-smoke-s0", RunConfig())
    with pytest.raises(UserError, match="not done"):
        record(folder)
    write_json(folder.path / "env.json", {"torch": "2.15", "git_sha": "abc", "diff": "+ secret"})
    folder.append_metrics([{"kind": "step", "step": 1, "epoch": 0.5, "loss": 2.0}])
    folder.finish(RESULT)
    made = record(folder)
    assert made["id"] == folder.id
    assert made["config"] == canonical(RunConfig())
    assert made["metrics"] == RESULT["metrics"]
    assert made["curves"]["loss"] == [2.0]
    assert made["env"] == {"torch": "2.15", "git_sha": "abc"}
    assert made["times"]["wall_seconds"] == 3.0
    append_lines(folder.path / "records.jsonl", [made])
    assert read_records(folder.path / "records.jsonl") == [made]
