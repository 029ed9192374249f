"""`repro compare`, `repro why-new` and `repro explain RUN`."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.comparison.compare import first_step_apart
from repro.cli.parser import main
from repro.harness.plan.plan import plan
from repro.harness.runs.store import create_run
from tests.analysis.comparison.made import make_own
from tests.cli.calling import json_of, mistake
from tests.cli.conftest import results

__all__ = ["results"]


def test_settings_metrics_and_the_first_step_apart_are_those_of_the_runs(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_own(results, losses=(3.0, 2.0, 1.0), knn=40.0, name="one")
    make_own(results, {"optim.lr": 0.5}, losses=(3.0, 2.5, 1.0, 0.5), knn=60.0, name="two")
    found = json_of(capsys, "compare", "one", "two")
    assert list(found["config"]) == ["optim.lr"]
    assert found["config"]["optim.lr"][1] == 0.5
    assert found["metrics"]["knn"] == [40.0, 60.0]
    assert found["partings"] == [{"common": 3, "step": 2, "epoch": None, "differ": ["loss"]}]
    assert main(["compare", "one", "two"]) == 0
    out = capsys.readouterr().out
    assert "curves of A and B part: from step 2 on (loss)" in out
    picture = Path(out.splitlines()[-1])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_repetition_parts_nowhere() -> None:
    lines = [{"kind": "step", "step": i, "loss": 1 / i, "im_s": i} for i in (1, 2)]
    again = [line | {"im_s": 99} for line in lines]
    assert str(first_step_apart(lines, again)) == "nowhere in 2 that both have"
    assert str(first_step_apart(lines, [])) == "nothing in common"


def test_published_runs_part_by_an_epoch(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("F7-both-laptop-s0", "F7-both-laptop-s1")
    found = json_of(capsys, "compare", *words)
    assert found["config"] == {"seed": [0, 1]}
    (parting,) = found["partings"]
    assert parting["step"] is None
    assert parting["epoch"] > 0


def test_one_run_is_no_comparison(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_own(results, name="one")
    assert "two runs or more" in mistake(capsys, "compare", "one")


def test_why_two_runs_are_two_is_the_setting_that_differs(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_own(results, name="one")
    two = make_own(results, {"teacher.momentum": 0.125}, name="two")
    found = json_of(capsys, "why-new", "one", "two")
    assert (found["a"]["id"], found["b"]["id"]) == (one.id, two.id)
    assert list(found["differ"]) == ["teacher.momentum"]
    assert main(["why-new", str(one.path), one.id]) == 0
    assert "one run" in capsys.readouterr().out


def test_a_row_that_was_run_before_a_default_changed_is_new_because_of_that_key(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = plan(["F7:both"], "smoke", 1, results).runs
    run.config.teacher.momentum = 0.125  # as it was then
    then = create_run(results / "runs", run.slug, run.config)
    found = json_of(capsys, "why-new", "F7:both", "--scale", "smoke")
    assert found["a"]["id"] == then.id
    assert found["b"]["id"] == run.id
    assert list(found["differ"]) == ["teacher.momentum"]
    assert found["differ"]["teacher.momentum"][0] == 0.125
    line = mistake(capsys, "why-new", "F7:centering", "--scale", "smoke")
    assert "no run was made for it" in line


def test_a_run_is_explained_by_its_settings_its_numbers_and_what_it_serves(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_own(results, {"seed": 77}, knn=41.0, name="mine")
    told = json_of(capsys, "explain", "mine")
    assert told["differs"] == {}
    assert told["metrics"]["knn"] == 41.0
    assert "F7:both" in told["serves"]
    assert "no evidence" in told["counts"]
    other = make_own(results, {"optim.lr": 0.5}, name="other")
    told = json_of(capsys, "explain", other.id[:6])
    assert list(told["differs"]) == ["optim.lr"]
    assert told["serves"] == []
    assert main(["explain", "other"]) == 0
    assert "optim.lr: 0.5 (there " in capsys.readouterr().out
