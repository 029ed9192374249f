"""A run is known by the content of its images, not by the name or the place of their folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from repro.config.compose import compose
from repro.config.schema import Paths, RunConfig
from repro.data.datasets import open_dataset
from repro.errors import UserError
from repro.harness.experiments.folders import experiments_dir
from repro.harness.plan.plan import planned_run
from repro.harness.plan.same_data import check_data, done_before
from repro.harness.runs.store import RunFolder, create_run, find_runs
from tests.data.test_folders import write_tree


def of(root: Path) -> RunConfig:
    return compose(experiments_dir(), "smoke", {"data": "folder", "paths.data": str(root)})


def made(runs: Path) -> RunFolder:
    (folder,) = find_runs(runs)
    return folder


def check(runs: Path, root: Path) -> None:
    config = of(root)
    folder = made(runs)
    check_data([planned_run(config, {folder.id: folder})], runs)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run of the pictures in `cats`, and others in `dogs`."""
    config = of(write_tree(tmp_path / "cats"))
    write_tree(tmp_path / "dogs", images=4)
    folder = create_run(tmp_path / "runs", "train", config)
    data = open_dataset(config.data, config.paths.data).digests()
    folder.write_environment({"data": data})
    folder.finish({"metrics": {}})
    return tmp_path / "runs"


def test_other_images_under_the_same_name_are_refused(runs: Path, tmp_path: Path) -> None:
    check(runs, tmp_path / "cats")
    words = r"dogs: train-.* was made of .*cats, other images .*train and test.*data\.name=NAME"
    with pytest.raises(UserError, match=words):
        check(runs, tmp_path / "dogs")


def test_a_folder_may_move_and_what_lies_in_it_may_not_change(runs: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "cats", tmp_path / "moved")
    check(runs, tmp_path / "moved")
    check(runs, tmp_path / "nowhere")  # nothing to compare with
    (tmp_path / "moved" / "train" / "camera" / "0.png").unlink()
    with pytest.raises(UserError, match=r"other images under the same name \(train\)"):
        check(runs, tmp_path / "moved")
    shutil.copytree(tmp_path / "dogs", tmp_path / "cats")
    with pytest.raises(UserError, match="of what lay there before"):
        check(runs, tmp_path / "cats")


@pytest.mark.parametrize("name", ["dogs", "nowhere"])
def test_a_run_without_any_step_takes_the_folder_that_is_named_now(
    name: str, runs: Path, tmp_path: Path
) -> None:
    """One that is not there, too, so that the complaint is about the folder that was typed last."""
    folder = made(runs)
    (folder.path / "result.json").unlink()
    check(runs, tmp_path / name)
    assert folder.config().paths == Paths(data=str(tmp_path / name))


def test_a_run_of_an_earlier_version_is_known_by_its_folder(runs: Path, tmp_path: Path) -> None:
    folder = made(runs)
    folder.write_environment({})
    check(runs, tmp_path / "cats")
    with pytest.raises(UserError, match="unrecorded"):
        check(runs, tmp_path / "dogs")


def test_images_made_here_are_never_looked_at(runs: Path) -> None:
    config = compose(experiments_dir(), "smoke")
    run = replace(planned_run(config, {}), id=made(runs).id)
    check_data([run], runs)


def test_what_was_done_before_is_said_briefly(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / f"run-{number}") for number in range(4)]
    assert done_before(folders[:1]) == "done before, nothing trained: run-0"
    assert done_before(folders) == "done before, nothing trained: run-0, run-1 and 2 more"
