"""One's own run: what it is called, its tags, and what is said of it before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from repro.cli.parser import main
from repro.config.compose import compose
from repro.config.identity import run_id
from repro.harness.experiments.folders import experiments_dir
from repro.harness.local.pool import dispatch
from repro.harness.plan.plan import planned_run
from repro.harness.runs.planned import LONGEST_NAME, own_name
from repro.harness.runs.states import read_run
from repro.harness.runs.store import create_run, find_runs
from tests.cli.calling import mistake
from tests.conftest import MakeConfig

SMOKE = ("--scale", "smoke")


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, ""),
        ({"seed": 3, "paths.data": "/data", "resources.ranks": 2}, ""),
        ({"teacher.momentum": 0.9, "method": "byol", "seed": 1}, "momentum=0.9 method=byol"),
        ({"data.name": "birds", "data": "folder"}, "data.name=birds data=folder"),
        ({"views.global_scale": [0.25, 1]}, "global_scale=[0.25,1]"),
    ],
)
def test_a_run_is_named_by_what_was_set_of_it(overrides: dict[str, object], name: str) -> None:
    assert own_name(overrides) == name


def test_a_long_name_is_cut() -> None:
    many = {"data.name": "x" * 300}
    assert len(own_name(many)) == LONGEST_NAME


def test_a_dry_run_names_the_run_and_how_it_is_and_starts_nothing(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "teacher.momentum=0.9", *SMOKE, "--dry-run"]
    assert main(argv) == 0
    config = compose(experiments_dir(), "smoke", {"teacher.momentum": 0.9})
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"train-momentum_0.9-smoke-s0-{run_id(config)}: new; nothing was started"
    assert not results.exists()
    create_run(results / "runs", "mine", config)
    assert main([*argv, "--name", "other"]) == 0
    assert capsys.readouterr().out.startswith(f"mine-{run_id(config)}: queued;")


def test_the_config_is_printed_as_a_run_would_have_it(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "seed=3", "optim.lr=0.25", "--name", "fast", *SMOKE, "--cfg"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["seed"], printed["optim"]["lr"], printed["label"]["row"]) == (3, 0.25, "fast")
    assert not results.exists()


@pytest.mark.parametrize("option", ["--name", "--tag"])
@pytest.mark.parametrize("word", ["a b", "", "-x", "a/b", "x" * 61])
def test_a_name_that_is_none_is_refused(
    option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"{option}={word}"]) == 2
    assert option in capsys.readouterr().err


def test_tags_join_those_that_a_run_has_and_leave_its_digest_alone(
    tmp_path: Path, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = smoke()
    folder = create_run(tmp_path, "mine", config)
    before = read_run(folder.path / "run.json")
    monkeypatch.setattr("repro.harness.local.pool.is_settled", lambda _: True)
    for tags in (("a", "b"), ("b", "c"), ()):
        dispatch([replace(planned_run(config, {}), tags=tags)], tmp_path)
    after = folder.read_run()
    assert after.tags == ("a", "b", "c")
    assert after.check == before.check
    folder.update_run(host="there")
    assert folder.read_run().tags == ("a", "b", "c")


def test_a_repeated_command_brings_new_paths_and_reporting_to_a_run_that_is_not_done(
    tmp_path: Path, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(tmp_path, "mine", smoke())
    again = smoke({"paths.data": "/new", "reporting.tensorboard": True})
    monkeypatch.setattr("repro.harness.local.pool.Pool.work", lambda _: None)
    dispatch([planned_run(again, {folder.id: folder})], tmp_path, workers=1)
    kept = folder.config()
    assert (kept.paths.data, kept.reporting.tensorboard) == ("/new", True)
    assert find_runs(tmp_path) == [folder]


def test_nothing_is_offered_that_is_not_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nearest: rm" in mistake(capsys, "delete")
    assert "nearest" not in mistake(capsys, "unlike-any")
    assert "nearest: plan" in mistake(capsys, "pln")


def test_the_program_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert alone == capsys.readouterr().out
