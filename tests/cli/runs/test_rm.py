"""`repro rm`: what was meant goes; what lives, or what is published was made from, stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.runs.store import RunFolder, find_runs
from tests.analysis.comparison.made import make_own
from tests.cli.calling import mistake


def left(results: Path) -> set[str]:
    return {folder.id for folder in find_runs(results / "runs")}


@pytest.mark.usefixtures("nobody_there")
def test_what_was_named_goes_after_a_yes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make_own(results, name="one"), make_own(results, {"seed": 1}, name="two")
    assert main(["rm", "one"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert left(results) == {one.id, two.id}
    assert main(["rm", "one", "--yes"]) == 0
    assert left(results) == {two.id}
    assert list((results / "runs").glob(".gone*")) == []
    capsys.readouterr()
    assert "no run in" in mistake(capsys, "rm", "one", "--yes")


def test_a_queued_and_a_running_run_stay(
    queued: RunFolder, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = make_own(results, {"seed": 1}, knn=None)
    with live.lock():
        assert main(["rm", queued.id, live.id, "--yes"]) == 0
    out = capsys.readouterr().out
    assert f"it is queued; repro cancel {queued.id}" in out
    assert f"it is running; repro cancel {live.id}" in out
    assert "nothing to remove" in out
    assert left(results) == {queued.id, live.id}


def test_what_is_published_stays_and_a_repetition_of_it_goes(
    results: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_own(results)
    folder.update_run(started=1000.0)
    line = (repository / "results/published/laptop/records.jsonl").read_text().splitlines()[0]
    record = json.loads(line) | {"id": folder.id}
    published = results / "published" / "smoke"
    published.mkdir(parents=True)

    def publish(started: float) -> None:
        text = json.dumps(record | {"times": record["times"] | {"started": started}})
        (published / "records.jsonl").write_text(f"{text}\n")

    publish(1000.0)
    assert main(["rm", folder.id, "--yes"]) == 0
    assert "published records were made from it" in capsys.readouterr().out
    assert left(results) == {folder.id}
    publish(2000.0)
    assert main(["rm", folder.id, "--yes"]) == 0
    assert left(results) == set()


def test_a_damaged_folder_goes_and_so_do_those_of_a_tag(results: Path) -> None:
    broken = make_own(results, name="broken")
    (broken.path / "config.yaml").unlink()
    tagged, other = make_own(results, {"seed": 1}), make_own(results, {"seed": 2})
    tagged.update_run(tags=("pilot",))
    assert main(["rm", "damaged", "pilot", "--yes"]) == 0
    assert left(results) == {other.id}
