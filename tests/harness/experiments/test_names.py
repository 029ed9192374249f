"""Words that commands read otherwise are no names of one's own experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures.draw import COLLAPSE, SCORECARD
from repro.cli.parser import main
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids, load, own_ids
from repro.harness.experiments.names import RESERVED
from repro.harness.runs.planned import OWN
from repro.harness.runs.states import State


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "experiments" / "own"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return folder


def test_what_is_reserved_is_what_commands_read() -> None:
    assert set(RESERVED) == {"all", COLLAPSE, SCORECARD, OWN, *State}


@pytest.mark.parametrize("name", [*RESERVED, "T7", "t7"])
def test_such_a_name_is_refused_by_new_sweep_and_when_a_file_has_it(
    name: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["sweep", "teacher.momentum=0.9,0.99", "--scale", "smoke", "--name", name]
    for words in (["new", name], line):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"repro: error: '{name}': ")
        assert said.endswith("; choose another name\n")
        assert said.count("\n") == 1
    assert not list(own.iterdir())

    assert main(["new", "mine"]) == 0
    (own / "mine.yaml").rename(own / f"{name}.yaml")
    assert own_ids() == []
    if name in experiment_ids():
        assert load(name).path.parent != own
    else:
        with pytest.raises(UserError, match=rf"own/{name}.yaml: '{name}': .*; choose another name"):
            load(name)


def test_the_list_says_which_files_it_leaves_out(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "mine"]) == 0
    for name in ("train", "T7"):
        (own / f"{name}.yaml").write_text((own / "mine.yaml").read_text())
    capsys.readouterr()
    assert main(["list"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in said] == [
        ["left out", f"{own}/T7.yaml"], ["left out", f"{own}/train.yaml"],
    ]  # fmt: skip


def test_runs_of_repro_train_are_found_beside_a_file_called_train(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "train.yaml").write_text("id: train\n")
    assert main(["status", "train"]) == 2
    assert "no run in" in capsys.readouterr().err
