"""`repro doctor`: what is broken fails, each with its fix."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from repro.cli.machine.machine_findings import OLDEST, OLDEST_PYTHON
from repro.cli.parser import main


def test_doctor_names_what_is_broken_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "file" / "results"))
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    broken = [finding for finding in findings if finding["level"] == "fail"]
    assert [finding["what"] for finding in broken] == [str(tmp_path / "file" / "results")]
    assert broken[0]["fix"]
    assert not any(f["fix"] for f in findings if f["level"] == "ok")


def test_the_oldest_versions_are_those_that_the_package_asks_for(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    asked = dict(line.split(">=") for line in project["dependencies"])
    for name, oldest in OLDEST.items():
        assert tuple(map(int, asked[name].split(".")[:2])) == oldest
    assert project["requires-python"] == ">=" + ".".join(map(str, OLDEST_PYTHON))
