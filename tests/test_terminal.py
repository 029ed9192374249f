"""What commands print fits the terminal, and no word of it is cut."""

from __future__ import annotations

import shutil
import sys

import pytest

from repro.cli.parser import main
from repro.terminal import table_lines, wrapped

COLUMNS = ["id", "k-NN", "what it differs in"]
ROWS = [
    ["3c0f8e9c5d", "47.2 ± 21.8 (3)", "target.operation=sinkhorn_knopp, target.centering=False"],
    ["139aa3a859", "70.8 ± 2.3 (3)", "nothing"],
]


def words(lines: list[str]) -> list[str]:
    return sorted(" ".join(lines).replace("─", " ").split())


def test_elsewhere_than_in_a_terminal_a_row_is_a_line() -> None:
    lines = table_lines(COLUMNS, ROWS)
    assert len(lines) == 3
    assert all(cell in line for row, line in zip(ROWS, lines[1:], strict=True) for cell in row)


@pytest.mark.parametrize("width", [40, 62, 80, 100])
def test_no_word_is_lost_or_cut_at_any_width(width: int) -> None:
    lines = table_lines(COLUMNS, ROWS, width)
    assert max(map(len, lines)) <= width
    text = words(lines)
    for row in ROWS:
        for word in " ".join(row).split():
            assert word in text


def test_a_number_stays_with_its_interval() -> None:
    for width in (30, 40, 80):
        assert any("47.2 ± 21.8 (3)" in line for line in table_lines(COLUMNS, ROWS, width))


def test_a_column_without_room_follows_below_its_row_under_its_name() -> None:
    lines = table_lines(COLUMNS, ROWS, 40)
    assert lines[0].split() == ["id", "k-NN"]
    assert lines[3].startswith("    what it differs in:")
    assert lines[-1] == "    what it differs in: nothing"


def test_text_is_broken_between_words_only() -> None:
    assert wrapped("one two-three four", 10) == ["one", "two-three", "four"]
    assert wrapped("", 10) == []


@pytest.mark.parametrize("line", ["list", "show T7", "show T2", "plan T7", "plan T7 --power"])
def test_commands_cut_no_number_and_no_name_at_80_columns(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 0
    plain = set(capsys.readouterr().out.split())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: type("Size", (), {"columns": 80}))
    assert main(line.split()) == 0
    shown = capsys.readouterr().out
    assert plain - {"─"} <= set(shown.replace(":", " ").split()) | set(shown.split())
    assert "…" not in shown
