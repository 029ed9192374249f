"""Lines with checks: what was written is read, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.files import TAIL_BYTES, append_lines
from repro.lines import append_checked, last_lines, read_checked

keys = st.text(min_size=1).filter(lambda key: key != "check")
values = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text() | st.none()
some_lines = st.lists(st.dictionaries(keys, values, min_size=1), min_size=1, max_size=5)


@settings(max_examples=50)
@given(lines=some_lines)
def test_what_is_appended_is_read_and_any_reader_of_json_reads_it_too(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    for line in lines:
        append_checked(path, [line])
    assert read_checked(path).values == last_lines(path).values == lines
    assert not read_checked(path).faults
    plain = [json.loads(line) for line in path.read_text().splitlines()]
    assert [{k: v for k, v in line.items() if k != "check"} for line in plain] == lines


LINES = [{"kind": "step", "step": step, "loss": step / 7, "more": {"a": [1]}} for step in range(9)]


def test_a_flipped_bit_costs_the_line_that_it_is_in_and_never_gives_another_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    append_checked(path, LINES)
    content, draw = path.read_bytes(), random.Random(0)
    for _ in range(500):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content) - 1)] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        found = read_checked(path)
        assert found.faults
        assert all(line in LINES for line in found.values)
        assert len(found.values) >= len(LINES) - 2  # a lost end of a line joins two


def test_a_cut_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_checked(path, LINES)
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        found = read_checked(path)
        assert not found.faults
        assert found.values == LINES[: len(found.values)]
        assert len(found.values) == content[:cut].count(b"\n")


def test_files_of_earlier_versions_have_no_checks_and_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_lines(path, LINES)
    assert read_checked(path).values == last_lines(path).values == LINES
    append_checked(path, LINES[:1])
    assert set(read_checked(path).faults) == set(range(1, 10))  # where one has a check all must


def test_the_end_of_a_large_file_is_read_from_its_first_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_checked(path, [{"step": step, "pad": "x" * 900} for step in range(500)])
    assert path.stat().st_size > 2 * TAIL_BYTES
    found = last_lines(path)
    assert not found.faults
    steps = [line["step"] for line in found.values]
    assert steps == list(range(500 - len(steps), 500))
    assert len(steps) == TAIL_BYTES // len(path.read_bytes().splitlines(keepends=True)[-1])
