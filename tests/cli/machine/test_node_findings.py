"""The doctor of a cluster: what its test job may find on a node, and how it may fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from repro.errors import UserError
from repro.harness.plan.obstacles import check_folders
from repro.harness.plan.plan import plan
from tests.cli.machine.clusters import CLUSTER, answer_the_probe, findings, healthy, of
from tests.harness.scripted import Scripted, scripted

__all__ = ["healthy", "scripted"]


@pytest.mark.parametrize(
    ("changes", "what", "level", "part"),
    [
        ({"time": 190.0}, "clocks of the nodes", "warn", "n1 is 90 s away"),
        ({"cpus": 1}, "CPUs of a job", "warn", "asked for 2 and may use 1"),
        ({"visible": ""}, "GPUs of a job", "fail", "asked for 1"),
        ({"scontrol": False}, "scontrol in a job", "ok", "the batch script asks"),
        ({"lock": "No locks available"}, "file locks from n1", "warn", "No locks available"),
        ({"reaches": False}, "file locks from n1", "warn", "flock is local; leases"),
        ({"checkpoint_seconds": 61.0}, "saving", "warn", "warning_seconds 120 s may be too short"),
        ({"checkpoint_seconds": 9.0}, "saving", "ok", "takes 9.0 s in the results folder"),
        ({"cuda": ""}, "GPUs of a job", "warn", "torch sees none"),
        ({"import_": "ImportError: x"}, "import torch on a node", "fail", "ImportError: x"),
    ],
)
def test_what_a_test_job_finds(
    healthy: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    what: str,
    level: str,
    part: str,
) -> None:
    answer_the_probe(monkeypatch, tmp_path, **changes)
    finding = of(tmp_path, what)
    assert finding.level == level
    assert part in finding.meaning


def test_a_test_job_that_waits_is_taken_back(healthy: Scripted, tmp_path: Path) -> None:
    healthy.answer("squeue", "PENDING Resources\n")
    finding = of(tmp_path, "a test job")
    assert finding.level == "warn"
    assert "PENDING Resources" in finding.meaning
    assert healthy.calls("scancel") == ["101"]


def test_a_test_job_that_failed_shows_its_last_line(healthy: Scripted, tmp_path: Path) -> None:
    (tmp_path / "doctor").mkdir()
    (tmp_path / "doctor" / "101_0_log.out").write_text("bash: module: command not found\n")
    finding = of(tmp_path, "a test job")
    assert finding.level == "fail"
    assert "module: command not found" in finding.meaning


def test_a_test_job_that_left_nothing_means_a_folder_that_is_not_shared(
    healthy: Scripted, tmp_path: Path
) -> None:
    finding = of(tmp_path, "shared folder")
    assert finding.level == "fail"
    assert "REPRO_RESULTS" in finding.fix


def test_a_refused_test_job_is_the_profiles_mistake(healthy: Scripted, tmp_path: Path) -> None:
    healthy.refuse_arrays_of(0, "sbatch: error: Invalid account\n")
    finding = of(tmp_path, "a test job")
    assert (finding.level, finding.meaning) == ("fail", "sbatch refused: Invalid account")


def test_a_setup_that_failed_is_told_by_its_line_and_not_by_slurms_noise(
    healthy: Scripted, tmp_path: Path
) -> None:
    (tmp_path / "doctor").mkdir()
    (tmp_path / "doctor" / "101_0_log.out").write_text(
        "setup: failed on n1 (exit code 1): module load cuda/99\n"
        "srun: launch/slurm: _step_signal: Terminating StepId=439.0\n"
    )
    finding = of(tmp_path, "a test job")
    assert finding.meaning == "failed: setup: failed on n1 (exit code 1): module load cuda/99"
    (tmp_path / "doctor" / "102_0_log.out").write_text(
        "slurmstepd: error: execve(): /no/python: No such file or directory\n"
        "srun: error: n1: task 0: Exited with exit code 2\n"
    )
    assert "execve(): /no/python: No such file" in of(tmp_path, "a test job").meaning


def test_a_grace_time_that_is_too_short_for_a_checkpoint_is_told(
    healthy: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "PreemptMode = REQUEUE\n\nPartitionName=gpu Default=YES GraceTime=30\n"
    healthy.answer("scontrol", text)
    answer_the_probe(monkeypatch, tmp_path, checkpoint_seconds=20.0)
    assert "GraceTime 30 s may be too short" in of(tmp_path, "saving").meaning


def test_folders_that_a_node_lacks_are_named_and_their_runs_not_sent(
    healthy: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"imagenet": "/datasets/imagenet", "voc12": "/datasets/VOC2012"}
    cluster = structs.replace(CLUSTER, data=data, resources={"ranks": 16})
    seen = {"/datasets/imagenet": "/datasets/imagenet: No such file or directory"}
    answer_the_probe(monkeypatch, tmp_path, data=seen | {"/datasets/VOC2012": ""})
    by_what = findings(tmp_path, cluster)
    assert by_what["data set imagenet"].level == "fail"
    assert "on n1: /datasets/imagenet: No such file" in by_what["data set imagenet"].meaning
    assert by_what["data sets"].meaning == "on n1: voc12"
    config = cluster.placed(plan(["T7:r1"], "paper", 1, tmp_path).runs[0].config)
    with pytest.raises(UserError, match="imagenet is not where the profile says"):
        check_folders([config], cluster, tmp_path)
