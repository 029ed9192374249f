"""Command lines that nobody thought of: an answer, or a mistake, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from repro.cli.parser import build_parser, main
from tests.fuzz.searching import search, words

# Those that neither train nor look through every published record.
COMMANDS = ("list", "show", "plan", "status", "logs", "cancel", "retry", "gc", "eval", "export")
OPTIONS = sorted(
    {
        option
        for name in COMMANDS
        for action in build_parser()[1][name]._actions
        for option in action.option_strings
    }
)
KNOWN = (
    "T7", "F7:both", "all", "T7:r1,r2", "failed", "done", "smoke", "laptop", "slurm", "local", "3",
    "knn", "linear", "F7-*", "train", "C.T7.1", "birds=/nowhere", "T7:", ":r1", "F7:,", "T7:r1:r2",
)  # fmt: skip
one = st.sampled_from(KNOWN) | st.sampled_from(OPTIONS) | words
lines = st.tuples(st.sampled_from(COMMANDS) | words, st.lists(one, max_size=5))


def test_whatever_is_typed_is_answered_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))

    def check(line: tuple[str, list[str]]) -> None:
        command, rest = line
        if command in ("train", "run", "submit", "doctor", "replicate", "report", "publish"):
            return
        code = main([command, *rest])
        said = capsys.readouterr()
        assert code in (0, 1, 2)
        assert code != 2 or said.err.count("repro") >= 1
        assert "Traceback" not in said.err

    search(check, lines, 25)
