"""The `repro` command as people and scripts meet it: words in, lines, JSON and exit codes out."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repro.cli.experiments import list as list_command
from repro.cli.machine import doctor
from repro.cli.parser import build_parser, main
from tests.cli.calling import mistake

SUBPARSERS = build_parser()[1]
NEEDS_IDS = ("show", "plan", "submit", "run", "table", "figure", "publish")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from repro.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'timm', 'pandas', 'numpy', 'hydra', 'omegaconf', 'rich', 'yaml'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert all(name in done.stdout for name in SUBPARSERS)
    assert "the four things people do" in done.stdout


@pytest.mark.parametrize("name", SUBPARSERS)
def test_the_help_of_every_command_shows_an_example_that_parses(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    example = capsys.readouterr().out.rpartition("example:")[2].split()
    assert example[:2] == ["repro", name]
    build_parser()[0].parse_args(example[1:])


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["pln", "T7"], "no command 'pln'; nearest: plan"),
        (["plan", "T7", "--seed", "3"], "repro plan: unknown argument '--seed'; nearest: --seeds"),
        (["plan", "T77"], "no experiment 'T77'"),
        (["show", "T7:r10"], "nearest: r1"),
        (["plan", "F7", "--scale", "labtop"], "nearest: laptop"),
        (["submit", "F7", "--cluster", "slrum"], "(known: local, slurm)"),
        (["train", "trian.epochs=3"], "nearest valid key: train.epochs"),
        (["train", "train.epochs"], "write key=value"),
        (["status", "nothing-like-it"], "matches 'nothing-like-it'; nearest: "),
        (["table", "T77"], "T77"),
    ],
)
@pytest.mark.usefixtures("results")
def test_a_mistake_is_one_line_with_the_nearest_valid_word(
    argv: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in mistake(capsys, *argv)


@pytest.mark.parametrize("name", NEEDS_IDS)
def test_a_command_without_its_ids_is_the_users_mistake(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name]) == 2
    assert "required: ID" in capsys.readouterr().err


def test_a_results_folder_that_cannot_be_written_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "file"))
    line = mistake(capsys, "train", "--scale", "smoke")
    assert str(tmp_path / "file") in line
    assert "REPRO_RESULTS" in line


@pytest.mark.parametrize(
    ("number", "part"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_one_line_that_names_the_path(
    number: int, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(arguments: Any) -> int:
        raise OSError(number, "Read-only file system", "/disk/run.json")

    monkeypatch.setattr(doctor, "run", refuse)
    line = mistake(capsys, "doctor")
    assert part in line
    assert "/disk/run.json" in line


def test_ctrl_c_is_one_line_and_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(list_command, "run", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "repro: interrupted\n"


def test_a_reader_that_has_seen_enough_causes_no_complaint() -> None:
    command = [sys.executable, "-m", "repro.cli", "show", "all"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
