"""Tables, figures and the published folder: complete, deterministic, rebuilt from records alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.publish import publish, rebuild
from analysis.tables import render_tables
from repro.errors import UserError

Record = dict[str, Any]
ROWS = ("F7.both", "F7.centering", "F7.sharpening", "T7.r2", "F6R.prev_epoch", "F5.s16")


@pytest.fixture
def records(make: Callable[..., Record]) -> list[Record]:
    return [make(row, seed) for row in ROWS for seed in range(3)]


def test_a_table_shows_reported_and_measured_numbers_and_drops_no_row(
    records: list[Record], published: Callable[..., Path]
) -> None:
    published(records)
    text = render_tables(["T7"], "laptop", "md")[0]
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
    publish(["F7", "T7"], "laptop")
    publish(["F7", "T7"], "laptop")
    assert file.read_bytes() == before
    assert len({json.loads(line)["id"] for line in before.splitlines()}) == len(records)


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
