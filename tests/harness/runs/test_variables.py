"""The environment between processes of the harness: all of it has its name in one module."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import repro
from repro.harness.runs import variables
from repro.harness.runs.variables import Number

OF_PEOPLE = {"REPRO_RESULTS"}


def test_no_other_module_names_a_variable_of_the_harness() -> None:
    named = {variable.name for variable in vars(variables).values() if isinstance(variable, Number)}
    package = Path(repro.__file__).parent
    for file in package.rglob("*.py"):
        if file.name != "variables.py":
            found = set(re.findall(r"\bREPRO_[A-Z_]+", file.read_text()))
            assert found <= OF_PEOPLE, f"{file} names {found & named or found}"


@pytest.mark.parametrize(("text", "number"), [(None, 7), ("", 7), ("0", 0), ("12", 12)])
def test_a_variable_that_is_not_set_has_its_default(
    monkeypatch: pytest.MonkeyPatch, text: str | None, number: int
) -> None:
    variable = Number("REPRO_SOMETHING", 7)
    monkeypatch.delenv(variable.name, raising=False)
    if text is not None:
        monkeypatch.setenv(variable.name, text)
    assert variable.read() == number


def test_what_is_handed_on_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.THREADS.holding(3).items():
        monkeypatch.setenv(name, value)
    assert variables.THREADS.read() == 3
