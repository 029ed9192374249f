"""`repro evals`: what was evaluated, of files and of runs, found and sorted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.runs.evaluations import Images, Request, RunEvaluation, Source, WeightsEvaluation
from tests.analysis.comparison.made import make_own
from tests.cli.calling import json_of, mistake

ENV = {"git_sha": "0123456789abcdef", "dirty": True}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three answers of two files of one name, and one of a run."""
    results = tmp_path / "results"
    monkeypatch.setenv("REPRO_RESULTS", str(results))
    (results / "evaluations").mkdir(parents=True)
    for number, (file, data, knn) in enumerate(
        (("/a/x.pth", "birds", 40.0), ("/b/x.pth", "birds", 60.0), ("/a/x.pth", "cats", 50.0))
    ):
        WeightsEvaluation(
            protocol="knn",
            request=Request("knn"),
            metrics={"knn_10": knn - 1, "knn_20": knn},
            env=ENV,
            made=1e9 + number,
            weights=Source(file, f"digest{file[1]}", "", 1),
            data=Images(data, f"/data/{data}"),
        ).write(results / "evaluations" / f"{number}.json")
    folder = make_own(results, name="mine")
    (folder.path / "evaluations").mkdir(exist_ok=True)
    made = RunEvaluation(
        protocol="retrieval",
        request=Request("retrieval", "roxford5k", "crops"),
        metrics={"map_medium@roxford5k": 12.5, "map_medium_clean@roxford5k": 13.0},
        step=3,
    )
    made.write(folder.path / "evaluations" / "retrieval@roxford5k.json", folder.id)
    (folder.path / "evaluations" / "knn.request.json").write_text("{}")
    return results


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> list[tuple[str, str]]:
    found = json_of(capsys, "evals", *words)["evaluations"]
    return [(Path(one["weights"]).parent.name or one["weights"], one["data"]) for one in found]


def test_files_and_runs_are_listed_with_numbers_time_and_code(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evals"]) == 0
    head, *lines, count = capsys.readouterr().out.splitlines()
    assert head.split() == ["when", "weights", "sha256", "data", "protocol", "numbers", "code"]
    assert count == "4 evaluations"
    assert [line.split()[2] for line in lines[:3]] == ["a/x.pth", "b/x.pth", "a/x.pth"]
    assert "knn_10 39, knn_20 40" in lines[0]
    assert lines[0].endswith("0123456789+")
    assert "roxford5k  retrieval  map_medium 12.5" in lines[3]
    (last,) = json_of(capsys, "evals", "retrieval")["evaluations"]
    assert last["metrics"] == {"map_medium@roxford5k": 12.5, "map_medium_clean@roxford5k": 13.0}
    assert last["run"] in last["weights"]


def test_every_word_of_a_filter_must_be_there(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, "BIRDS") == [("a", "birds"), ("b", "birds")]
    assert shown(capsys, "birds", "digestb") == [("b", "birds")]
    assert shown(capsys, "birds", "retrieval") == []
    assert main(["evals", "nothing"]) == 0
    assert capsys.readouterr().out == "0 evaluations\n"


def test_they_are_sorted_by_word_or_number(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best_first = [("b", "birds"), ("a", "cats"), ("a", "birds")]
    assert shown(capsys, "knn", "--sort", "knn_20") == best_first
    assert shown(capsys, "knn", "--sort", "weights") == [
        ("a", "birds"), ("a", "cats"), ("b", "birds"),
    ]  # fmt: skip
    assert [data for _, data in shown(capsys, "--sort", "map_medium")] == ["roxford5k"]
    assert "nearest: knn_20" in mistake(capsys, "evals", "--sort", "knn_2")


def test_a_damaged_answer_is_named_and_the_others_are_listed(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = results / "evaluations" / "1.json"
    content = json.loads(file.read_text())
    content["metrics"]["knn_20"] = 99.0
    file.write_text(json.dumps(content))
    assert main(["evals"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("3 evaluations\n")
    assert err.startswith(f"left out: {file}: damaged: not what was written")
    assert err.count("\n") == 1
