"""`repro check`: its shape and its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from repro.cli.parser import main
from tests.cli.calling import json_of


def test_check_has_its_fixed_shape_and_fails_exactly_when_a_claim_is_contradicted(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checked = json_of(capsys, "check", "F7", "--on", "reported")
    assert {"id", "verdict", "holds", "detail"} <= checked["claims"][0].keys()
    assert sum(checked["summary"].values()) == len(checked["claims"])
    assert not any(claim["holds"] is False for claim in checked["claims"])

    # The same paper, had it printed a collapse of the run with both operations.
    shutil.copytree(repository / "experiments", tmp_path / "experiments")
    spec = tmp_path / "experiments" / "F7.yaml"
    text = spec.read_text()
    spec.write_text(text.replace("{entropy: 0.92, kl: 0.94}", "{entropy: 0.0, kl: 0.0}"))
    assert spec.read_text() != text
    monkeypatch.chdir(tmp_path)
    assert main(["check", "F7", "--on", "reported", "--json"]) == 1
    claims = {c["id"]: c["holds"] for c in json.loads(capsys.readouterr().out)["claims"]}
    assert claims["C.F7.3"] is False
