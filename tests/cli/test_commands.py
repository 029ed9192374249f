"""One module and one line of the table make a command."""

from __future__ import annotations

import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import repro
from repro.cli import commands
from repro.cli.parser import build_parser, main

PARTS = ("HELP", "EXAMPLE", "add", "run")
FOLDER = Path(commands.__file__).parent


def modules_in_folders() -> dict[str, ModuleType]:
    """Every module in a folder of `repro/cli`, by its name from there."""
    names = [
        f"{folder.name}.{module.name}"
        for folder in pkgutil.iter_modules([str(FOLDER)])
        if folder.ispkg
        for module in pkgutil.iter_modules([str(FOLDER / folder.name)])
    ]
    return {name: import_module(f"repro.cli.{name}") for name in names}


def test_the_table_lists_exactly_the_modules_that_are_commands() -> None:
    are_commands = {
        name
        for name, module in modules_in_folders().items()
        if any(hasattr(module, part) for part in PARTS)
    }
    assert are_commands == set(commands.TABLE)
    assert len(commands.TABLE) == len(are_commands) == len(commands.commands())


@pytest.mark.parametrize("name", commands.TABLE)
def test_a_command_has_all_its_parts(name: str) -> None:
    module = import_module(f"repro.cli.{name}")
    command = commands.name_of(name)
    assert module.HELP[:1].islower()
    assert not module.HELP.endswith(".")
    assert module.EXAMPLE.split()[:2] == ["repro", command]
    assert module.__doc__ is not None
    assert module.__doc__.startswith(f"`repro {command}`")
    assert list(inspect.signature(module.add).parameters) == ["parser"]
    assert list(inspect.signature(module.run).parameters) == ["arguments"]
    arguments = build_parser()[0].parse_args(module.EXAMPLE.split()[1:])
    assert arguments.run is module.run


def test_a_module_and_a_line_are_enough_for_a_new_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = ModuleType("repro.cli.results.greet")
    source = """
HELP = "say hello"
EXAMPLE = "repro greet you"
def add(parser): parser.add_argument("name")
def run(arguments):
    print(f"hello {arguments.name}")
    return 1
"""
    exec(source, vars(toy))
    monkeypatch.setitem(sys.modules, toy.__name__, toy)
    monkeypatch.setattr(commands, "TABLE", (*commands.TABLE, "results.greet"))
    assert main(["greet", "you"]) == 1
    assert capsys.readouterr().out == "hello you\n"
    assert main(["--help"]) == 0
    assert re.search(r"greet +say hello", capsys.readouterr().out)
    assert main(["gret", "you"]) == 2
    assert "nearest: greet" in capsys.readouterr().err


def test_the_version_is_that_of_the_package_with_the_commit_of_a_checkout(
    repository: Path,
) -> None:
    code = (
        "import sys; from repro.cli import main; code = main(['--version']);"
        "heavy = {'torch', 'timm', 'pandas', 'numpy', 'hydra', 'omegaconf', 'rich', 'yaml'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    git = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    expected = f"repro {repro.__version__}" + (f" ({commit})" if commit else "")
    assert done.stdout == f"{expected}\n"


def test_workers_are_a_number_or_chosen_by_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()[0]
    told = [["submit", "T7", *more] for more in ([], ["--workers", "3"], ["--workers", "auto"])]
    assert [parser.parse_args(words).workers for words in told] == [None, 3, 0]
    assert main(["submit", "T7", "--workers", "0"]) == 2
    assert "--workers: 0 must be at least 1" in capsys.readouterr().err
