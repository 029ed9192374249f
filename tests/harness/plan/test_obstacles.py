"""What a plan says beforehand of data, shapes and memory, and what is then not sent."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from repro.config.compose import compose
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.experiments.folders import experiments_dir
from repro.harness.plan.obstacles import check_folders, folder_fault, keep_seen, remarks
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.slurm.requirements import Increase
from tests.harness.scripted import Scripted, scripted

__all__ = ["scripted"]
CLUSTER = SlurmCluster(name="mine", gpus=1, cpus=4, memory_gb=16, minutes=90)


def placed(**profile: Any) -> tuple[list[RunConfig], SlurmCluster]:
    """Two runs of the paper's scale on a cluster of 8-GPU nodes."""
    resources = {"ranks": 16} | profile.pop("resources", {})
    cluster = structs.replace(CLUSTER, resources=resources, **profile)
    config = compose(experiments_dir(), "paper", source="test")
    return [cluster.placed(config), cluster.placed(replace(config, seed=1))], cluster


def test_a_data_set_without_a_folder_is_named_and_not_sent(tmp_path: Path) -> None:
    configs, cluster = placed()
    (line,) = remarks(configs, cluster, tmp_path)
    assert line == (
        "data set imagenet has no folder: set data: {imagenet: FOLDER} in the profile mine"
    )
    with pytest.raises(
        UserError, match=r"cluster mine: data set imagenet has no .*; needed by 2 runs; nothing"
    ):
        check_folders(configs, cluster, tmp_path)


def test_a_submission_without_data_is_refused_before_it_is_claimed(
    scripted: Scripted, tmp_path: Path
) -> None:
    runs = plan(["T7:r1"], "paper", 1, tmp_path).runs
    cluster = structs.replace(CLUSTER, resources={"ranks": 16})
    with pytest.raises(UserError, match="data set imagenet has no folder"):
        submit(runs, cluster, tmp_path, Increase(), print)
    assert scripted.scripts == []
    assert not list((tmp_path / "submissions").glob("*/submission.json"))


def test_a_folder_that_this_machine_does_not_have_is_for_the_doctor_to_look_for(
    tmp_path: Path,
) -> None:
    configs, cluster = placed(data={"imagenet": "/only/on/nodes"})
    (line,) = remarks(configs, cluster, tmp_path)
    assert "repro doctor --cluster mine has not looked for it on a node yet" in line
    check_folders(configs, cluster, tmp_path)
    keep_seen(cluster, tmp_path, {"/only/on/nodes": ""})
    assert remarks(configs, cluster, tmp_path) == ()
    keep_seen(cluster, tmp_path, {"/only/on/nodes": "/only/on/nodes: No such file or directory"})
    with pytest.raises(UserError, match=r"not where the profile says: /only.*No such file"):
        check_folders(configs, cluster, tmp_path)
    # Of another profile it says nothing.
    check_folders(configs, structs.replace(cluster, name="other"), tmp_path)


def test_a_folder_that_is_here_and_not_on_the_nodes_is_not_enough_until_it_changes(
    tmp_path: Path,
) -> None:
    (tmp_path / "imagenet" / "train").mkdir(parents=True)
    folder = str(tmp_path / "imagenet")
    configs, cluster = placed(data={"imagenet": folder})
    keep_seen(cluster, tmp_path, {folder: f"{folder}: No such file or directory"})
    with pytest.raises(UserError, match="not where the profile says"):
        check_folders(configs, cluster, tmp_path)
    # What was nowhere and is here now may be on the nodes as well.
    (tmp_path / "imagenet" / "train").rmdir()
    keep_seen(cluster, tmp_path, {folder: f"{folder} is empty"})
    (tmp_path / "imagenet" / "train").mkdir()
    check_folders(configs, cluster, tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", '{"mine": {"/only/on/nodes": 3}}', "flipped"])
def test_what_a_doctor_saw_and_a_disk_spoilt_is_looked_for_again(
    content: str, tmp_path: Path
) -> None:
    configs, cluster = placed(data={"imagenet": "/only/on/nodes"})
    keep_seen(cluster, tmp_path, {"/only/on/nodes": ""})
    file = tmp_path / "doctor" / "data.json"
    spoilt = file.read_text().replace("/nodes", "/noses", 1)
    file.write_text(spoilt if content == "flipped" else content)
    (line,) = remarks(configs, cluster, tmp_path)
    assert "has not looked for it on a node yet" in line
    keep_seen(cluster, tmp_path, {"/only/on/nodes": ""})
    assert remarks(configs, cluster, tmp_path) == ()


def test_a_folder_that_is_here_is_enough(tmp_path: Path) -> None:
    (tmp_path / "imagenet" / "train").mkdir(parents=True)
    configs, cluster = placed(data={"imagenet": str(tmp_path / "imagenet")})
    assert remarks(configs, cluster, tmp_path) == ()


def test_images_that_are_made_here_need_no_folder(tmp_path: Path) -> None:
    config = compose(experiments_dir(), "smoke", source="test")
    assert remarks([config], CLUSTER, tmp_path) == ()


def test_ranks_that_leave_nodes_partly_empty_are_told(tmp_path: Path) -> None:
    configs, cluster = placed(gpus_per_node=6, data={"imagenet": str(tmp_path)})
    assert "16 ranks: 4 on each of 4 nodes, which have room for 6" in remarks(
        configs, cluster, tmp_path
    )


def test_a_batch_that_fits_no_gpu_is_told_with_ranks_that_do(tmp_path: Path) -> None:
    configs, cluster = placed(resources={"ranks": 1}, data={"imagenet": str(tmp_path.parent)})
    (line,) = remarks(configs, cluster, tmp_path)
    assert line.startswith("vit_small/16, batch 1024: up to ")
    assert line.endswith("resources: {paper: {ranks: 8}} of the profile")


def test_a_folder_may_name_a_variable_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path))
    (tmp_path / "imagenet").mkdir()
    assert folder_fault("$SLURM_TMPDIR/imagenet") == f"{tmp_path}/imagenet is empty"
    (tmp_path / "imagenet" / "train").mkdir()
    assert folder_fault("${SLURM_TMPDIR}/imagenet") == ""
    monkeypatch.delenv("SLURM_TMPDIR")
    assert "SLURM_TMPDIR is not set" in folder_fault("$SLURM_TMPDIR/imagenet")
    assert "No such file" in folder_fault("/nowhere/at/all")


def test_a_login_node_without_torch_plans_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('not here')")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "repro.cli", "plan", "T7:r1", "--scale", "paper"]
    done = subprocess.run(
        [*command, "--cluster", "slurm"], check=False, capture_output=True, text=True,
        env=environment | {"REPRO_RESULTS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 run, 1 to do; cost unknown" in done.stdout
    assert "data set imagenet has no folder" in done.stdout
