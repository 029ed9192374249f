"""Tables, figures and the published folder: complete, deterministic, rebuilt from records alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.publish import append, publish, rebuild
from analysis.tables.formats import render_tables
from repro.errors import UserError
from repro.files import append_lines, write_json
from repro.harness.experiments.experiment import load, row_config
from repro.harness.runs.store import RunFolder, create_run

Record = dict[str, Any]
ROWS = ("F7.both", "F7.centering", "F7.sharpening", "T7.r2", "F6R.prev_epoch", "F5.s16")


@pytest.fixture
def records(make: Callable[..., Record]) -> list[Record]:
    return [make(row, seed) for row in ROWS for seed in range(3)]


def test_a_table_shows_reported_and_measured_numbers_and_drops_no_row(
    records: list[Record], published: Callable[..., Path]
) -> None:
    published(records)
    text = render_tables(["T7"], load_evidence("laptop"), "md")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 9
    assert "72.8" in lines[2]
    assert "75.1 ± 0.2 (3)" in lines[2]
    assert sum("not run" in line for line in lines) == 7
    assert "random initialisation 60.0 %" in text
    assert "C.T7.1" in text


def test_rebuilding_from_records_alone_gives_the_same_bytes(
    records: list[Record], published: Callable[..., Path]
) -> None:
    folder = published(records)
    first = {path.name: path.read_bytes() for path in rebuild("laptop")}
    for name in first:
        (folder / name).unlink()
    again = {path.name: path.read_bytes() for path in rebuild("laptop")}
    assert {"F7.png", "F7.svg", "T7.md", "T7.tex", "T7.csv", "README.md"} <= set(first)
    assert first == again


def test_publishing_twice_appends_nothing_and_changes_no_line(
    records: list[Record], published: Callable[..., Path]
) -> None:
    file = published(records) / "records.jsonl"
    before = file.read_bytes()
    append(["F7", "T7"], "laptop")
    append(["F7", "T7"], "laptop")
    assert file.read_bytes() == before
    assert len({json.loads(line)["id"] for line in before.splitlines()}) == len(records)


def finished_run(results: Path, row: str, seed: int, dirty: bool = False) -> RunFolder:
    """A run folder as a worker leaves it."""
    experiment = load("F7")
    config = row_config(experiment, experiment.row(row), "laptop", seed)
    folder = create_run(results / "runs", f"F7-{row}-laptop-s{seed}", config)
    step = {"kind": "step", "step": 1, "epoch": 1.0, "loss": 1.0, "entropy": 2.0, "kl": 0.5}
    floors = {"knn_pixels": 37.5, "knn_random": 62.5}
    accuracy = 100 * (720 + seed) / 1024
    outputs = {"entropy": 2.0, "kl": 0.5, "mean_entropy": 3.5, "log_K": math.log(64)}
    evaluated = [
        {"kind": "eval", "step": s, "epoch": float(s), "knn": 62.5 + s, "student_knn": 62.5 + s}
        for s in range(0, 11, 2)
    ]
    evaluated[-1]["knn"] = accuracy
    append_lines(folder.path / "metrics.jsonl", [step, *evaluated])
    write_json(
        folder.path / "env.json", {"git_sha": "0123456789abcdef", "dirty": dirty, "diff": ""}
    )
    result = {
        "metrics": {"knn": accuracy} | outputs | floors | {"decomposition_error": 1e-7},
        "sentinel": {"state": "healthy", "since_step": 1, "meaning": ""},
        "counts": {"steps": 1, "test_images": 1024},
    }
    write_json(folder.path / "result.json", result)
    return folder


def published_ids(results: Path) -> list[str]:
    file = results / "published" / "laptop" / "records.jsonl"
    return [json.loads(line)["id"] for line in file.read_text().splitlines()]


def test_finished_runs_are_published_and_unfinished_ones_are_not(results: Path) -> None:
    done = [finished_run(results, "both", seed) for seed in range(2)]
    unfinished = finished_run(results, "centering", 0)
    (unfinished.path / "result.json").unlink()
    publication = publish(["F7"], "laptop")
    assert publication.refused == []
    assert published_ids(results) == [folder.id for folder in done]
    names = {path.name for path in publication.written}
    assert {"records.jsonl", "F7.md", "F7.png", "scorecard.svg", "README.md"} <= names


def test_runs_of_uncommitted_code_are_refused_with_the_reason(results: Path) -> None:
    clean = finished_run(results, "both", 0)
    finished_run(results, "both", 1, dirty=True)
    (why,) = append(["F7"], "laptop").refused
    assert why.startswith("F7-both-laptop-s1: its run was made by code that was not committed")
    assert published_ids(results) == [clean.id]


def test_a_folder_with_an_edited_config_and_a_pilots_are_refused_and_others_are_published(
    results: Path,
) -> None:
    whole, edited, pilot = (finished_run(results, "both", seed) for seed in (0, 1, 100))
    file = edited.path / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.004", "lr: 0.04"))
    refused = {refusal.id: refusal for refusal in load_evidence("laptop").refused}
    assert refused.keys() == {edited.id, pilot.id}
    assert str(refused[edited.id]).startswith(f"{edited.path} ({edited.id}): {file}: edited: ")
    assert refused[pilot.id].expected
    assert "a pilot" in refused[pilot.id].why
    append(["F7"], "laptop")
    assert published_ids(results) == [whole.id]


def test_publishing_without_runs_of_one_s_own_does_not_begin_a_folder_that_hides_others(
    results: Path,
) -> None:
    (results / "published").rmdir()  # so that the repository's are read
    there = len(load_evidence("laptop").records)
    assert there > 100
    with pytest.raises(UserError, match="no finished run of F7"):
        publish(["F7"], "laptop")
    assert not (results / "published").exists()
    assert len(load_evidence("laptop").records) == there


def test_a_torn_last_line_is_made_again_and_no_other_line_changes(results: Path) -> None:
    finished_run(results, "both", 0)
    append(["F7"], "laptop")
    file = results / "published" / "laptop" / "records.jsonl"
    whole = file.read_bytes()
    second = finished_run(results, "both", 1)
    file.write_bytes(whole + b'{"schema": 1, "id": "0123')  # the disk was full
    append(["F7"], "laptop")
    assert file.read_bytes().startswith(whole)
    assert published_ids(results)[1:] == [second.id]


def test_smoke_runs_and_empty_experiments_are_not_published(results: Path) -> None:
    with pytest.raises(UserError, match="never evidence"):
        publish(["F7"], "smoke")
    with pytest.raises(UserError, match="no finished run of F7"):
        publish(["F7"], "laptop")


def test_the_committed_tables_and_figures_are_those_of_the_committed_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published = Path(__file__).parents[2] / "results" / "published"
    (tmp_path / "published" / "laptop").mkdir(parents=True)
    for name in ("records.jsonl", "evaluations.jsonl", "NOTES.md"):
        content = (published / "laptop" / name).read_bytes()
        (tmp_path / "published" / "laptop" / name).write_bytes(content)
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    for path in rebuild("laptop"):
        committed = published / "laptop" / path.name
        if path.suffix in (".png", ".svg"):
            # Pixels depend on the version of the font renderer; the drawing must exist.
            assert committed.is_file(), path.name
        else:
            assert path.read_text() == committed.read_text(), path.name
