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
from repro.harness.runs import seal
from repro.harness.runs.curves import BINS, curves_of
from repro.harness.runs.environment import Environment, Hardware, environment
from repro.harness.runs.published_schema import EVALUATED, MEASURED, page
from repro.harness.runs.records import (
    as_line,
    environment_of,
    read_evaluations,
    read_records,
    record,
)
from repro.harness.runs.store import create_run

RESULT: dict[str, Any] = {
    "metrics": {"knn": 71.5},
    "sentinel": {"state": "healthy", "since_step": 1, "meaning": "as it should be"},
    "counts": {"steps": 2},
    "wall_seconds": 3.0,
}


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200))
def test_curves_are_means_over_equal_bins_of_steps(losses: list[float]) -> None:
    events = [
        {"kind": "step", "step": i + 1, "epoch": (i + 1) / 8, "loss": v, "sentinel": "healthy"}
        for i, v in enumerate(losses)
    ]
    made = curves_of(events).steps
    n, bins = len(losses), min(BINS, len(losses))
    assert set(made) == {"epoch", "loss"}
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
    made = curves_of(events)
    assert made.steps["loss"] == [1.0] * BINS
    assert made.evaluations == {"epoch": [2], "knn": [71.23456789], "student_knn": [70]}


def test_a_record_holds_the_evidence_and_only_a_finished_run_has_one(tmp_path: Path) -> None:
    folder = create_run(tmp_path / "runs", "F7-both-smoke-s0", RunConfig())
    with pytest.raises(UserError, match="not done"):
        record(folder)
    write_json(folder.path / "env.json", {"torch": "2.15", "git_sha": "abc", "diff": "+ secret"})
    folder.append_metrics([{"kind": "step", "step": 1, "epoch": 0.5, "loss": 2.0}])
    folder.finish(RESULT)
    made = record(folder)
    assert made.id == folder.id
    assert made.config == canonical(RunConfig())
    assert made.metrics == RESULT["metrics"]
    assert made.curves.steps["loss"] == [2.0]
    assert made.env == Environment(torch="2.15", git_sha="abc")
    assert made.times.wall_seconds == 3.0
    append_lines(folder.path / "records.jsonl", [as_line(made)])
    (read,) = read_records(folder.path / "records.jsonl")
    assert as_line(read) == as_line(made)
    assert read.curves == made.curves


PUBLISHED = Path(__file__).parents[3] / "results" / "published"


def test_published_lines_are_read_as_types_and_written_as_the_same_bytes() -> None:
    for folder in (file.parent for file in PUBLISHED.glob("*/records.jsonl")):
        runs = read_records(folder / "records.jsonl")
        evaluations = read_evaluations(folder / "evaluations.jsonl")
        for name, lines in (("records.jsonl", runs), ("evaluations.jsonl", evaluations)):
            written = "".join(seal.sealed([as_line(line) for line in lines], ""))
            assert written == (folder / name).read_text()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"seed": "0"}, r"line 2 is no record: Expected `int`, got `str` - at `\$.seed`"),
        ({"sentinel": {}}, r"line 2 is no record: .*missing required field .* - at `\$.sentinel`"),
        ({"metrics": {"knn": "71"}}, r"line 2 is no record: .*at `\$.metrics\[...\]`"),
        ({"metrics": {"knn": True}}, r"line 2 is no record: .*at `\$.metrics\[...\]`"),
    ],
)
def test_a_line_that_is_no_record_is_named_with_its_key(
    broken: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (run, *_) = read_records(PUBLISHED / "laptop" / "records.jsonl")
    file = tmp_path / "records.jsonl"
    append_lines(file, [as_line(run), as_line(run) | broken])
    with pytest.raises(UserError, match=rf"^{file}: {message}"):
        read_records(file)


def test_a_line_that_is_no_json_is_named_and_a_torn_one_does_not_count(tmp_path: Path) -> None:
    (run, *_) = read_records(PUBLISHED / "laptop" / "records.jsonl")
    file = tmp_path / "records.jsonl"
    append_lines(file, [as_line(run)])
    with file.open("a") as lines:
        lines.write('{"schema": 1, "id"')
    assert read_records(file) == [run]
    with file.open("a") as lines:
        lines.write("\n")
    with pytest.raises(UserError, match="line 2 is not valid JSON"):
        read_records(file)


def test_curves_are_checked_when_they_are_looked_at(tmp_path: Path) -> None:
    (run, *_) = read_records(PUBLISHED / "laptop" / "records.jsonl")
    file = tmp_path / "records.jsonl"
    append_lines(file, [as_line(run) | {"curves": {"loss": "falls"}}])
    (broken,) = read_records(file)
    with pytest.raises(UserError, match=f"record {run.id}: curves: "):
        print(broken.curves)


def test_the_published_schema_is_that_of_the_structs() -> None:
    """python -m repro.harness.runs.published_schema > results/published/SCHEMA.md"""
    assert (PUBLISHED / "SCHEMA.md").read_text() == page()


def test_the_schema_names_every_published_metric() -> None:
    def plain(name: str) -> str:
        return name.partition("@")[0].replace("_clean", "")

    known = {plain(name) for table in (MEASURED, EVALUATED) for names in table for name in names}
    runs = read_records(PUBLISHED / "laptop" / "records.jsonl")
    evaluations = read_evaluations(PUBLISHED / "laptop" / "evaluations.jsonl")
    published = {plain(name) for line in (*runs, *evaluations) for name in line.metrics}
    assert published <= known


def test_a_record_keeps_all_that_a_run_notes_of_code_and_machine(tmp_path: Path) -> None:
    folder = create_run(tmp_path / "runs", "F7-both-smoke-s0", RunConfig())
    noted = environment("cpu")
    write_json(folder.path / "env.json", noted)
    assert {*noted} - {"diff"} <= {*Environment.__struct_fields__}
    assert {*noted["hardware"]} <= {*Hardware.__struct_fields__}
    kept = environment_of(folder)
    assert kept.hardware is not None
    assert kept.hardware.cpu == noted["hardware"]["cpu"]
