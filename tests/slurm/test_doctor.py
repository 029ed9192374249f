"""The doctor on a real SLURM."""

from __future__ import annotations

import json
import sys

from tests.slurm.conftest import Lab


def test_the_doctor_tries_a_job_and_finds_what_bites(lab: Lab) -> None:
    profile = lab.profile(gpus=1, cpus=2)
    said = json.loads(lab.repro("doctor", "--cluster", profile, "--json"))["findings"]
    found = {finding["what"]: finding for finding in said}
    version = lab.cluster.run("sbatch", "--version").split()[1]
    assert found[f"SLURM {version}"]["level"] == "ok"
    assert found["accounting"]["level"] == "ok"
    assert found["arrays to 40, 10000 jobs"]["level"] == "ok"
    assert any(what.startswith("a test job on gpu") for what in found)
    assert found["clocks of the nodes"]["level"] == "ok"
    assert found["import torch on a node"]["level"] == "ok"
    assert found["scontrol in a job"]["level"] == "ok"
    assert "a lock held there keeps this machine out" in next(
        finding["meaning"] for what, finding in found.items() if what.startswith("file locks from")
    )
    assert found["saving"]["meaning"].startswith("a ViT-S checkpoint takes ")
    # A pretend GPU: SLURM gives it, torch cannot see it.
    assert "SLURM gave 1, torch sees none" in found["GPUs of a job"]["meaning"]


def test_the_doctor_says_when_the_accounting_is_down(lab: Lab) -> None:
    lab.cluster.stop_daemon("slurmdbd")
    try:
        said = lab.repro("doctor", "--cluster", lab.profile())
        assert "accounting is down" in said
    finally:
        lab.cluster.start_accounting()


def test_a_profile_that_the_cluster_cannot_serve_is_named(lab: Lab) -> None:
    profile = lab.profile(partition="nowhere")
    said = lab.repro("doctor", "--cluster", profile, code=1)
    assert "there is none" in said
    line = lab.repro("submit", "F7", "--scale", "smoke", "--cluster", profile, "--yes", code=2)
    assert "sbatch refused" in line
    assert "partition" in line


def test_the_doctor_tells_a_failing_setup_by_its_line(lab: Lab) -> None:
    profile = lab.profile(setup=["no_module load cuda/99"])
    said = json.loads(lab.repro("doctor", "--cluster", profile, "--json", code=1))["findings"]
    (finding,) = [finding for finding in said if finding["what"] == "a test job"]
    assert finding["meaning"].startswith("failed: setup: failed on")
    assert finding["meaning"].endswith("(exit code 127): no_module load cuda/99")


def test_the_doctor_looks_for_data_and_for_scontrol_where_jobs_run(lab: Lab) -> None:
    away = {"imagenet": "/nowhere/imagenet", "here": str(lab.folder)}
    python = f"env PATH=/nonexistent {sys.executable}"  # as in a container
    profile = lab.profile(data=away, python=python, resources={"ranks": 16})
    said = json.loads(lab.repro("doctor", "--cluster", profile, "--json", code=1))["findings"]
    found = {finding["what"]: finding for finding in said}
    assert "/nowhere/imagenet: No such file" in found["data set imagenet"]["meaning"]
    assert found["data sets"]["meaning"].endswith(": here")
    assert "is missing beside Python" in found["scontrol in a job"]["meaning"]
    words = ("T7:r1", "--scale", "paper", "--cluster", profile, "--yes")
    assert "is not where the profile says" in lab.repro("submit", *words, code=2)
