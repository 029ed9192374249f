"""Seals: a line that was edited, added, moved or removed by hand is named, and no other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.errors import UserError
from repro.files import append_lines
from repro.harness.runs import seal

CONTENTS: list[dict[str, Any]] = [
    {"id": f"{n:010x}", "knn": 70 + n / 7, "of": 'a "digest": "word"'} for n in range(6)
]

PUBLISHED = Path(__file__).parents[3] / "results" / "published" / "laptop"
BEFORE = {  # lines of the published files when they were sealed, and the digest of those lines
    "records.jsonl": (
        113, "688162dbe2a04b38595d84513baf00d3a1069b69e52dbaf81f3f124475bb921d",
    ),
    "evaluations.jsonl": (
        199, "f5b008fbd3e3eef5e555a7c99f1580ab61f65e80118046756a582eafb480f072",
    ),
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    seal.append(path, CONTENTS)
    return path


def sealed() -> list[bytes]:
    return [line.rstrip("\n").encode() for line in seal.sealed(CONTENTS, "")]


def again(line: bytes) -> bytes:
    """Sealed anew behind the same line, by somebody who knows how."""
    content = json.loads(line)
    before = content.pop("previous")
    del content["digest"]
    (made,) = seal.sealed([content], before)
    return made.rstrip("\n").encode()


def test_a_digest_is_that_of_the_line_before_it_and_of_the_line_itself(file: Path) -> None:
    before = ""
    for line, content in zip(file.read_text().splitlines(), CONTENTS, strict=True):
        body, _, ending = line.rpartition(', "digest": "')
        assert ending == f'{hashlib.sha256(body.encode()).hexdigest()}"}}'
        told = json.loads(line)
        assert told.pop("previous") == before
        before = told.pop("digest")
        assert told == content
    assert seal.last_digest(seal.lines_of(file)) == before
    assert seal.broken(seal.lines_of(file)) == {}


@given(st.integers(0, 5), st.data())
def test_a_character_that_changes_is_noticed_where_it_is(number: int, data: st.DataObject) -> None:
    lines = sealed()
    at = data.draw(st.integers(1, len(lines[number]) - 3))
    other = b"0" if lines[number][at : at + 1] != b"0" else b"1"
    lines[number] = lines[number][:at] + other + lines[number][at + 1 :]
    wrong = seal.broken(lines)
    assert number + 1 in wrong
    # The line before is to blame, too, where what changed is the name of it.
    assert wrong.keys() <= {number, number + 1}


def test_a_line_that_was_edited_and_sealed_again_is_named_by_the_one_after_it() -> None:
    lines = sealed()
    lines[2] = again(lines[2].replace(b'"knn": 70.28', b'"knn": 99.28'))
    assert seal.broken(lines).keys() == {3}
    assert "the line after it was sealed after another line" in seal.broken(lines)[3]


@pytest.mark.parametrize("number", [0, 2])
def test_a_line_that_was_removed_leaves_a_gap(number: int) -> None:
    lines = sealed()
    del lines[number]
    assert seal.broken(lines).keys() == {max(number, 1)}


def test_lines_that_changed_places_are_noticed() -> None:
    lines = sealed()
    lines[2], lines[3] = lines[3], lines[2]
    assert set(seal.broken(lines)) & {3, 4}


def test_a_line_without_a_seal_is_refused_in_a_sealed_file_and_no_other_is() -> None:
    plain = json.dumps(CONTENTS[0]).encode()
    for place in (0, 3, 6):
        lines = sealed()
        lines.insert(place, plain)
        assert seal.broken(lines).keys() == {place + 1}


def test_files_of_earlier_versions_are_whole_until_they_are_sealed(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_lines(path, CONTENTS)
    before = path.read_bytes().splitlines()
    assert seal.broken(before) == {}
    assert not seal.is_sealed(before)
    seal.main([str(path)])
    assert seal.is_sealed(seal.lines_of(path))
    for old, new in zip(before, seal.lines_of(path), strict=True):
        assert new.startswith(old[:-1])  # every byte of it
    assert seal.lines_of(path) == sealed()
    assert not seal.seal_file(path)


def test_appending_seals_what_is_there_and_goes_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_lines(path, CONTENTS[:4])
    seal.append(path, [])
    assert not seal.is_sealed(seal.lines_of(path))  # nothing to say, nothing changed
    seal.append(path, CONTENTS[4:])
    assert seal.lines_of(path) == sealed()


def test_nothing_is_appended_behind_a_broken_seal(file: Path) -> None:
    file.write_text(file.read_text().replace('"knn": 70.0', '"knn": 75.0'))
    with pytest.raises(UserError, match=r"line 1: its digest is not that of its content"):
        seal.append(file, CONTENTS)
    append_lines(file, [])
    assert len(seal.lines_of(file)) == len(CONTENTS)


def test_what_is_no_object_is_not_sealed(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"id": "a"}\n[1]\n')
    with pytest.raises(UserError, match="line 2 is no JSON object"):
        seal.seal_file(path)


@pytest.mark.parametrize("name", BEFORE)
def test_sealing_left_every_byte_of_what_had_been_published(name: str) -> None:
    number, digest = BEFORE[name]
    lines = seal.lines_of(PUBLISHED / name)[:number]
    bare = b"".join(line.rpartition(b', "previous": "')[0] + b"}\n" for line in lines)
    assert hashlib.sha256(bare).hexdigest() == digest
