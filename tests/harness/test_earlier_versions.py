"""What earlier versions wrote is read as it was meant, and another schema is refused by its number.

`earlier/results` holds run folders and a queued submission of commit ee3d9ca, `earlier/first` a
run folder and the first published record of 58de0eb, the first version that trained, and the first
published evaluation (41ee94b), which had no seals; all without checkpoints. There has been no
schema but 1: keys joined, and what is missing of them is read as what was done before.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from repro.cli import main
from repro.config.identity import run_id
from repro.harness.runs.checkpoint import OWNER, SCHEMA, find, save
from repro.harness.runs.contradictions import of_content, of_identity
from repro.harness.runs.published import read
from repro.harness.runs.records import PublishedEvaluation, Record, Replication, record
from repro.harness.runs.seal import seal_file
from repro.harness.runs.store import find_runs
from tests.harness.scripted import Scripted, all_waiting, scripted

__all__ = ["scripted"]

EARLIER = Path(__file__).parent / "earlier" / "results"
FIRST = Path(__file__).parent / "earlier" / "first"
PUBLISHED = Path(__file__).parents[2] / "results/published/laptop"
FILES: tuple[tuple[str, type[Record | PublishedEvaluation | Replication]], ...] = (
    ("records.jsonl", Record),
    ("evaluations.jsonl", PublishedEvaluation),
    ("replications.jsonl", Replication),
)


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


def test_a_run_folder_of_the_first_version_is_the_same_run_with_all_it_measured() -> None:
    (folder,) = find_runs(FIRST / "runs")
    assert run_id(folder.config()) == folder.id == "6a86c17266"
    line = record(folder)
    assert line.metric("kl") == 0.5526676177978516
    assert line.counts.steps == 8
    assert line.env.hardware is not None
    assert line.env.hardware.threads == 2
    assert line.env.data is line.env.kernels is None  # nobody noted them then
    assert [*of_identity(line), *of_content(line)] == []


@pytest.mark.parametrize(("name", "kind"), FILES[:2])
def test_lines_that_were_published_before_there_were_seals_are_read_and_keep_their_content(
    name: str, kind: type[Record | PublishedEvaluation], tmp_path: Path
) -> None:
    file = Path(shutil.copy(FIRST / name, tmp_path))
    before = read(file, kind)
    assert len(before.candidates) == 1
    assert seal_file(file)
    for after in (read(file, kind), read(PUBLISHED / name, kind)):
        assert not after.refused
        assert before.candidates[0].line in [candidate.line for candidate in after.candidates]


@pytest.mark.parametrize("rest", ["", ', "id": "0123456789", "run": "0123456789"', ', "new": [[]]'])
@pytest.mark.parametrize("schema", [0, 2, 17])
@pytest.mark.parametrize(("name", "kind"), FILES)
def test_a_line_of_another_schema_is_refused_alone_and_by_its_number(
    name: str, kind: type[Record], schema: int, rest: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(f'{{"schema": {schema}{rest}}}\n')
    (refusal,) = read(file, kind).refused
    assert refusal.why == f"it has schema {schema}, and this version of the program reads 1"


def test_a_whole_record_of_a_later_schema_is_refused_beside_those_that_are_known(
    tmp_path: Path,
) -> None:
    line = (FIRST / "records.jsonl").read_text()
    (tmp_path / "records.jsonl").write_text(line.replace('"schema": 1', '"schema": 2') + line)
    found = read(tmp_path / "records.jsonl", Record)
    assert [refusal.where[-6:] for refusal in found.refused] == ["line 1"]
    assert [candidate.line.id for candidate in found.candidates] == ["e784d3ea15"]


def test_a_checkpoint_of_a_later_schema_is_refused_in_a_line(tmp_path: Path) -> None:
    later = {OWNER: {"schema": SCHEMA + 1, "run": "0123456789", "data": {}}, "step": 3}
    save(tmp_path, later)
    found = find(tmp_path, run="0123456789")
    assert found.state is None
    assert found.faults == "last.pt: was made by a later version of this program"
