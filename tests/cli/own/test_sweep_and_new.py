"""`repro sweep` and `repro new`: from a line to a file, its runs, its table and its picture."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from repro.cli.own.grammar import read_sweep
from repro.cli.parser import main
from repro.config import compose as composing
from repro.config import composed
from repro.errors import UserError
from repro.harness.experiments.experiment import load
from repro.harness.experiments.own import Swept
from repro.harness.local.pool import Outcome
from repro.harness.runs.planned import PlannedRun
from repro.kept import Answers
from tests.cli.calling import json_of, mistake

LINE = ("sweep", "teacher.momentum=0.9,0.99", "head.prototypes=64,256", "--scale", "smoke")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path) -> Path:
    """A working directory of one's own, results in it."""
    monkeypatch.chdir(tmp_path)
    (results / "published").mkdir(parents=True)
    return tmp_path / "experiments" / "own"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[PlannedRun]]:
    """The runs that the pool was given in place of training them."""
    runs: list[PlannedRun] = []

    def dispatch(planned: list[PlannedRun], *_: Any, **__: Any) -> Outcome:
        runs.extend(planned)
        return Outcome()

    monkeypatch.setattr("repro.harness.local.pool.dispatch", dispatch)
    return runs


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("teacher.momentum=0.9,0.990,0.9", [0.9, 0.99]),
        ("head.prototypes=range(64,257,64)", [64, 128, 192, 256]),
        ("teacher.momentum=range(0.9,1,0.05)", [0.9, 0.95]),
        ("optim.lr=choice(1e-3,1)", [0.001, 1.0]),
        ("method=dino,byol", ["dino", "byol"]),
        ("method=glob([d*,b*])", ["byol", "dino"]),
        ("target.sharpening=true,false", [True, False]),
        ("data.name=010,'1e5'", ["010", "1e5"]),
        ("views.global_scale=[0.25,1],[0.4,1]", [[0.25, 1], [0.4, 1]]),
        ("head.prototypes=sort(256,64)", [64, 256]),
    ],
)
def test_hydra_s_grammar_gives_values_of_the_key_s_type(word: str, values: list[Any]) -> None:
    (read,) = read_sweep([word]).axes.values()
    assert read == values
    assert [type(value) for value in read] == [type(value) for value in values]


def test_one_value_is_a_setting_of_all_rows() -> None:
    assert read_sweep(["method=byol", "paths.data=/data/x"]) == Swept(
        {}, {"method": "byol", "paths.data": "/data/x"}
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["teacher.momentm=1,2"], "nearest valid key: teacher.momentum"),
        (["teacher.momentum"], "teacher.momentum"),
        (["teacher.momentum=interval(0,1)"], "use range() or choice()"),
        (["+teacher.momentum=1,2"], "write KEY=VALUE"),
        (["~method"], "write KEY=VALUE"),
        (["method=glob(x*)"], "no file of"),
        (["train.epochs=glob(*)"], "glob() chooses files of data, model"),
        (["seed=0,1"], "--seeds N"),
        (["train.epochs=1", "train.epochs=2,3"], "set twice"),
        (["train.epochs=range(0,10000000)"], "more than 5,000"),
        (["train.epochs=3"], "no key has several values"),
        (["method=dino,bjol"], "nearest: byol"),
        (["train.epochs=0,1"], "train.epochs"),
        ([*LINE[1:3], "--name", "T7"], "one of the paper's"),
        ([*LINE[1:3], "--name", "failed"], "a word of theirs"),
        ([*LINE[1:3], "--name", "../x"], "a name begins with a letter"),
    ],
)
def test_a_mistake_is_one_line_and_no_file_is_written(
    words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in mistake(capsys, "sweep", *words, "--scale", "smoke")
    assert not folder.exists()


def test_a_sweep_is_written_and_only_its_new_runs_are_sent_when_it_grows(
    folder: Path, sent: list[PlannedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LINE, "--dry-run"]) == 0
    assert "4 rows; would be written" in capsys.readouterr().out
    assert not folder.exists()
    assert main([*LINE, "--seeds", "2"]) == 0
    first = {run.id for run in sent}
    assert len(first) == 8
    text = (folder / "momentum-prototypes.yaml").read_text()
    assert main([*LINE, "--seeds", "2"]) == 0
    assert (folder / "momentum-prototypes.yaml").read_text() == text
    assert {run.id for run in sent} == first

    more = ["sweep", "teacher.momentum=0.95", "--name", "momentum-prototypes", "--scale", "smoke"]
    assert main([*more, "--seeds", "2"]) == 0
    assert "6 rows, 2 of them new" in capsys.readouterr().out
    assert len({run.id for run in sent} - first) == 4
    assert main(["table", "momentum-prototypes", "--scale", "smoke"]) == 0
    capsys.readouterr()
    assert json_of(capsys, "list")[-1] == {
        "id": "momentum-prototypes", "title": "momentum x prototypes", "kind": "table", "rows": 6,
        "claims": 0, "trainable": 6, "done": {}, "published": {}, "here": {}, "own": True,
    }  # fmt: skip


def test_a_file_that_cannot_be_read_stops_no_list(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text("id: [")
    assert main(["list"]) == 0
    out = capsys.readouterr()
    assert "T7" in out.out
    assert out.err.startswith("left out: ")
    assert "bad.yaml" in out.err


def test_own_grids_are_not_published_and_a_bad_file_stops_no_explanation(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "warm"]) == 0
    (folder / "bad.yaml").write_text("id: [")
    capsys.readouterr()
    assert "warm: only the paper's" in mistake(capsys, "publish", "warm", "--scale", "laptop")
    assert main(["explain", "C.T7.1", "--evidence", "published"]) == 0
    capsys.readouterr()
    assert "bad.yaml" in mistake(capsys, "explain", "C.nobody.1", "--evidence", "published")


def test_a_grid_without_claims_has_none_to_check(
    folder: Path, sent: list[PlannedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LINE, "--name", "mine"]) == 0
    assert "repro report" not in capsys.readouterr().out  # which is about the paper's
    assert main(["check", "mine", "--scale", "smoke"]) == 0
    assert "no claims" in capsys.readouterr().out


def test_a_value_added_to_a_grid_of_200_runs_composes_its_own_rows_alone(
    sent: list[PlannedRun], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = Answers("composed")
    atexit.unregister(kept.save)
    monkeypatch.setattr(composed, "_answers", lambda _: kept)
    monkeypatch.setattr("repro.cli.runs.run.say_what_came_out", lambda *_: None)
    line = ["sweep", "teacher.momentum=range(0.9,0.99,0.01)", "head.prototypes=range(64,705,64)"]
    options = ["--name", "big", "--scale", "smoke", "--seeds", "2"]
    assert main([*line, *options]) == 0
    assert len({run.id for run in sent}) == 198
    asked: list[str] = []
    compose = composing.compose

    def counted(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return compose(*arguments)

    monkeypatch.setattr(composing, "compose", counted)
    assert main(["sweep", "teacher.momentum=0.993", *options, "--dry-run"]) == 0
    assert len(asked) == 11


def test_new_begins_a_file_that_reads_plans_and_is_judged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "warm"]) == 0
    assert str(folder / "warm.yaml") in capsys.readouterr().out
    assert main(["plan", "warm", "--scale", "smoke"]) == 0
    assert "4 runs, 4 to do" in capsys.readouterr().out
    assert main(["check", "warm", "--scale", "smoke"]) == 0
    assert "C.warm.1" in capsys.readouterr().out
    assert "exists" in mistake(capsys, "new", "warm")


@pytest.mark.parametrize("model", ["T7", "F7", "T8", "AC_K", "T14"])
def test_new_copies_an_experiment_with_its_addresses_renamed(model: str, folder: Path) -> None:
    assert main(["new", "mine", "--from", model]) == 0
    copy, original = load("mine"), load(model)
    assert [row.name for row in copy.rows] == [row.name for row in original.rows]
    assert [row.reported for row in copy.rows] == [row.reported for row in original.rows]
    ours = [str(claim.body).replace("mine.", f"{model}.") for claim in copy.claims]
    assert ours == [str(claim.body) for claim in original.claims]
    assert not {claim.id for claim in copy.claims} & {claim.id for claim in original.claims}


def test_new_of_an_experiment_that_is_not_there_names_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match="nearest: T7"):
        load("T77")
    assert main(["new", "mine", "--from", "T77"]) == 2
    assert not folder.exists()
