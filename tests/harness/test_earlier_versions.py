"""Run folders and a queued submission that commit ee3d9ca wrote are read as they were
meant: `earlier/results` holds their files, all but checkpoints.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from repro.cli import main
from repro.config.identity import run_id
from repro.harness.runs.store import find_runs
from tests.harness.scripted import Scripted, all_waiting, scripted

__all__ = ["scripted"]

EARLIER = Path(__file__).parent / "earlier" / "results"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    shutil.copytree(EARLIER, folder)
    monkeypatch.setenv("REPRO_RESULTS", str(folder))
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_config_still_has_the_id_of_its_folder(results: Path) -> None:
    folders = find_runs(results / "runs")
    assert len(folders) == 4
    assert [run_id(folder.config()) for folder in folders] == [folder.id for folder in folders]


def test_states_steps_causes_and_waiting_jobs_are_what_they_were(
    results: Path, scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.answer("squeue", all_waiting(results))
    runs = {run["id"]: run for run in answer(capsys, "status")["runs"]}
    assert {i: (run["state"], run["step"]) for i, run in runs.items()} == {
        "6a86c17266": ("done", 8),
        "05f9aa2533": ("failed", 0),
        "d6796d6724": ("interrupted", 20),
        "3107094dac": ("queued", 0),
    }
    cause = runs["05f9aa2533"]["cause"]
    assert cause.startswith("data.kind=folder (nowhere) needs paths.data=ROOT")


def test_a_queued_job_is_found_by_its_name_and_cancelled(results: Path, scripted: Scripted) -> None:
    scripted.answer("squeue", all_waiting(results))
    assert main(["cancel", "3107094dac", "--yes"]) == 0
    assert any("101_1" in call for call in scripted.calls("scancel"))


def test_a_plan_counts_what_was_trained_and_what_is_queued(
    results: Path, scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.answer("squeue", all_waiting(results))
    planned = answer(capsys, "plan", "F7:both,centering", "--scale", "smoke")
    assert planned["todo"] == 0
    assert {run["id"]: run["state"] for run in planned["runs"]} == {
        "6a86c17266": "done",
        "3107094dac": "queued",
    }


def test_a_finished_run_is_evidence_with_its_evaluation(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explained = answer(capsys, "explain", "F7:both:kl", "--scale", "smoke")
    assert explained["mean"] == 0.5526666715741158
    assert explained["n"] == 1
