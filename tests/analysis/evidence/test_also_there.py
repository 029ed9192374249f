"""A run of one's own is no evidence until a submission asks for its settings and its seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.evidence.sources import Source
from repro.cli.parser import main
from tests.analysis.comparison.made import make_own
from tests.cli.conftest import results

__all__ = ["results"]


def test_a_further_seed_of_a_row_is_named_and_does_not_count(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_own(results, {"seed": 77})
    make_own(results, {"optim.lr": 0.5})  # of no row
    evidence = load_evidence("smoke", Source.own)
    assert evidence.records == {}
    assert not evidence.refused
    assert evidence.also_there(["F7"]) == ["train-smoke-s77"]
    assert main(["table", "F7", "--scale", "smoke"]) == 0
    said = capsys.readouterr().err
    assert "also there, not counted: train-smoke-s77;" in said
    assert "lr" not in said


def test_a_submission_takes_over_the_run_of_its_seed_and_leaves_the_others(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, further = make_own(results), make_own(results, {"seed": 77})
    asked = []
    monkeypatch.setattr(
        "repro.cli.runs.start._start_here", lambda runs, *_: asked.append(runs) or 0
    )
    assert main(["submit", "F7:both", "--scale", "smoke", "--seeds", "1", "--yes"]) == 0
    assert (first.told().experiment, first.told().row) == ("F7", "both")
    assert further.told().experiment == "train"
    assert load_evidence("smoke", Source.own).also_there(["F7"]) == ["train-smoke-s77"]
