"""What there is to run, as JSON for programs and in the paper's columns for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.experiments.experiment import experiment_ids
from repro.harness.plan.plan import plan
from repro.harness.runs.store import create_run
from tests.cli.calling import json_of


def test_list_has_its_fixed_shape(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "published").mkdir(parents=True)  # the repository's records are not read
    entries = json_of(capsys, "list")
    assert [entry["id"] for entry in entries] == experiment_ids()
    seven = next(entry for entry in entries if entry["id"] == "T7")
    assert (seven["kind"], seven["rows"], seven["done"]) == ("table", 9, {})


def test_show_has_its_fixed_shape(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json_of(capsys, "show", "T7")
    assert {"id", "title", "rows", "claims"} <= shown.keys()
    r2, r3 = shown["rows"][1:3]
    assert r2["reported"] == {"knn": 0.1, "linear": 0.1}
    assert (r2["overrides"], r2["trainable"]) == ({"teacher.kind": "student_copy"}, True)
    assert r3["overrides"] == {
        "target.operation": "sinkhorn_knopp",
        "target.centering": False,
    }
    (quoted,) = [r for r in json_of(capsys, "show", "T2")["rows"] if r["name"] == "rn50_barlow"]
    assert not quoted["trainable"]
    assert {"id", "statement", "kind"} == shown["claims"][0].keys()
    assert [e["id"] for e in json_of(capsys, "show", "T7:r1", "F7")] == ["T7", "F7"]


def test_show_prints_the_papers_columns_with_ticks_and_what_each_row_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", "T7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("row"))
    assert header.split()[1:7] == ["Method", "Mom.", "SK", "MC", "Loss", "Pred."]
    r2 = next(line for line in lines if line.startswith("r2"))
    assert r2.split()[1:8] == ["✗", "✗", "✓", "CE", "✗", "0.1", "0.1"]
    r3 = next(line for line in lines if line.startswith("r3"))
    assert r3.endswith("target.operation=sinkhorn_knopp, target.centering=False")


def test_plan_has_its_fixed_shape_and_starts_nothing(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = json_of(capsys, "plan", "F7", "T7", "--scale", "smoke", "--seeds", "2")
    assert planned["todo"] == len(planned["runs"]) == 24
    assert {"id", "experiment", "row", "seed", "state"} <= planned["runs"][0].keys()
    assert planned["gpu_hours"] == 0  # the step that was measured is a CPU's
    assert planned["skipped"] == []
    assert not results.exists()


def test_list_plan_status_and_runs_tell_what_is_published_from_what_is_here(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seven = next(entry for entry in json_of(capsys, "list") if entry["id"] == "T7")
    assert seven["published"]["laptop"] == seven["done"]["laptop"] == 9
    assert not any(seven["here"].values())
    assert all(run["published"] for run in json_of(capsys, "plan", "T7")["runs"])
    assert main(["plan", "T7"]) == 0
    planned = capsys.readouterr().out
    assert planned.count("new (published)") == 9
    assert "9 runs, 9 to do, 9 of them published, not here;" in planned
    for command in ("status", "runs"):
        assert main([command]) == 0
        assert capsys.readouterr().out.startswith("no runs here; published: ")

    (run,) = plan(["T7:r1"], "laptop", 1, results).runs
    done = create_run(results / "runs", run.slug, run.config)
    done.finish({"metrics": {"knn": 1.0}, "counts": {"steps": 1}})
    seven = next(entry for entry in json_of(capsys, "list") if entry["id"] == "T7")
    assert (seven["published"]["laptop"], seven["here"]["laptop"]) == (9, 1)
    assert main(["plan", "T7"]) == 0
    planned = capsys.readouterr().out
    assert "done (published)" in planned
    assert "9 runs, 8 to do, 8 of them published, not here;" in planned
    assert main(["plan", "T7", "--scale", "smoke"]) == 0
    assert "published" not in capsys.readouterr().out
