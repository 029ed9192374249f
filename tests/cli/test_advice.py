"""What a mistake's line advises works: words that are typed for others, addresses, options."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro import __version__
from repro.cli.commands import SYNONYMS
from repro.cli.parser import build_parser, main
from repro.errors import nearest
from repro.harness.runs.failures import FailureKind
from tests.cli.calling import json_of, mistake

SUBPARSERS = build_parser()[1]


@pytest.mark.parametrize(
    ("word", "close"),
    [
        ("tabel", "table"), ("pln", "plan"), ("evaluate", "eval"), ("fig", "figure"),
        ("remove", "rm"), ("delete", "rm"), ("ls", "list"), ("stop", "cancel"),
        ("config", "train --cfg"), ("comprae", "compare"),
    ],
)  # fmt: skip
def test_a_command_is_advised_where_it_is_like_the_word_or_does_what_that_does_elsewhere(
    word: str, close: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"no command '{word}'; nearest: {close} (" in mistake(capsys, word)
    assert close.split()[0] in SUBPARSERS


@pytest.mark.parametrize("word", ["frobnicate", "upload", "x", "serve", "login"])
def test_no_command_is_advised_where_none_is_near(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mistake(capsys, word).endswith(f"no command '{word}'; repro --help shows all\n")


def test_synonyms_are_no_commands_and_lead_to_ones() -> None:
    assert not SYNONYMS.keys() & SUBPARSERS.keys()
    for words in SYNONYMS.values():
        name, *options = words.split()
        assert set(options) <= {o for a in SUBPARSERS[name]._actions for o in a.option_strings}


def test_help_and_version_may_be_asked_for_in_words_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = {}
    for line in ("", "--help", "help", "table --help", "help table", "-V", "--version", "version"):
        assert main(line.split()) == 0
        shown[line] = capsys.readouterr().out
    assert shown[""] == shown["--help"] == shown["help"]
    assert shown["table --help"] == shown["help table"]
    assert shown["-V"] == shown["--version"] == shown["version"]
    assert shown["-V"].startswith(f"repro {__version__}")
    assert "The paper's table" in shown["help table"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("plan T7 --budget 1", "an option of repro submit, repro run"),
        ("plan T7 -s 3", "unknown argument '-s'; repro plan --help shows all"),
        ("plan T7 --seedz 3", "nearest: --seeds"),
        ("plan T7.r3.knn", "is a cell: repro explain T7:r3:knn; here its row: T7:r3"),
        ("plan T7:r3:knn", "is a cell: repro explain T7:r3:knn; here its row: T7:r3"),
        ("check C.T7.1", "is a claim: repro explain C.T7.1; here its experiment: T7"),
        ("show 7", "nearest: T7"),
        ("show Table_7", "nearest: T7"),
        ("show fig.6r", "nearest: F6R"),
        ("show unlike-any", "repro list shows all"),
        ("plan T7 optim.lr=1e-3", "repro train and repro sweep"),
        ("plan T7 --scale huge", "nearest: none (one of gpu, laptop, paper, smoke)"),
    ],
)
@pytest.mark.usefixtures("results")
def test_a_word_that_is_not_understood_is_advised_about(
    line: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in mistake(capsys, *line.split())


@pytest.mark.usefixtures("results")
def test_rows_are_named_with_dots_as_tables_and_claims_name_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for typed, dotted in (("T7:r2", "T7.r2"), ("AD_m:m0.99", "AD_m.m0.99")):
        assert json_of(capsys, "plan", dotted) == json_of(capsys, "plan", typed)


def test_a_list_of_seeds_is_told_to_be_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "T7", "--seeds", "0,1,2"]) == 2
    assert "how many, e.g. 3 for the seeds 0, 1 and 2" in capsys.readouterr().err


@pytest.mark.usefixtures("results")
def test_lines_of_a_log_have_a_short_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "-n", "5"]) == 0
    assert capsys.readouterr().err == ""


def test_what_is_like_nothing_has_no_nearest() -> None:
    keys = ["teacher.kind", "teacher.momentum", "optim.lr"]
    assert nearest("teacher.knd", keys) == "teacher.kind"
    assert nearest("momentun", keys) == "teacher.momentum"
    assert nearest("optimizer.lr", keys) == "optim.lr"
    assert nearest("colour", keys) == "none"
    assert nearest("anything", []) == "none"


@pytest.mark.parametrize("kind", list(FailureKind))
def test_what_a_failure_advises_is_a_command_that_parses(kind: FailureKind, tmp_path: Path) -> None:
    parser = build_parser()[0]
    advised = [part for part in kind.remedy.replace(",", ";").split(";") if "repro " in part]
    for part in advised:
        words = part[part.index("repro ") :].split()[1:]
        if words[0] == "retry":
            taken = parser.parse_args(words[:3] if "--only" in words else words[:1])
            assert "--only" not in words or taken.only == kind.short
        assert words[0] in SUBPARSERS
