"""`repro runs`: numbers, what differs, order; a folder that cannot be read is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.cli.parser import main
from tests.analysis.comparison.made import make_own
from tests.cli.calling import json_of, mistake
from tests.cli.conftest import results

__all__ = ["results"]


def test_each_run_has_its_numbers_and_what_tells_it_from_the_others(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_own(results, knn=40.0)
    make_own(results, {"seed": 1}, knn=42.0)
    fast = make_own(results, {"optim.lr": 0.5}, knn=60.0, name="fast")
    live = make_own(results, {"seed": 2}, losses=(9.0, 8.5), knn=None)
    runs = {run["id"]: run for run in json_of(capsys, "runs")["runs"]}
    assert len(runs) == 4
    assert runs[fast.id]["differs"] == {"optim.lr": 0.5}
    assert runs[fast.id]["name"] == "fast"
    assert runs[live.id]["metrics"] == {"loss": 8.5}
    assert [run["differs"] for run in runs.values()].count({}) == 3
    assert main(["runs", "fast"]) == 0
    out = capsys.readouterr().out
    assert "train-fast-smoke" in out
    assert "60" in out


def test_runs_are_sorted_by_a_metric_a_setting_or_a_word(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, knn, lr in ((0, 40.0, 0.3), (1, 60.0, 0.2), (2, None, 0.1)):
        make_own(results, {"seed": seed, "optim.lr": lr}, knn=knn, name="abc"[seed])

    def order(key: str) -> list[int]:
        return [run["seed"] for run in json_of(capsys, "runs", "--sort", key)["runs"]]

    assert order("knn") == [1, 0, 2]
    assert order("optim.lr") == [2, 1, 0]
    assert order("name") == [0, 1, 2]
    assert order("created") == [0, 1, 2]
    assert "nearest: knn" in mistake(capsys, "runs", "--sort", "kn")


@pytest.mark.parametrize("width", [80, 120])
def test_no_number_is_cut_at_any_width(
    width: int,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = make_own(results, {"optim.lr": 0.125, "teacher.momentum": 0.75}, knn=43.21)
    make_own(results, {"optim.lr": 0.5, "optim.warmup_epochs": 0}, knn=12.34)
    for seed in (1, 2):
        make_own(results, {"seed": seed})
    monkeypatch.setattr("repro.terminal.terminal_width", lambda: width)
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    for word in (made.id, "43.21", "12.34", "lr=0.125", "momentum=0.75"):
        assert word in out
    assert max(map(len, out.splitlines())) <= width


def test_a_run_that_this_code_does_not_know_is_listed_and_a_damaged_one_left_out_with_a_line(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange, broken = make_own(results), make_own(results, {"seed": 1})
    config = strange.path / "config.yaml"
    config.write_text(config.read_text().replace("kind: cross_entropy", "kind: absolute"))
    (broken.path / "result.json").write_text("{")
    found = json_of(capsys, "runs")
    assert [(run["id"], run["state"]) for run in found["runs"]] == [(strange.id, "damaged")]
    (note,) = found["notes"]
    assert f"repro rm {broken.id}" in note
