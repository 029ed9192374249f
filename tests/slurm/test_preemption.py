"""Preempted, requeued, continued: the weights are those of a run that nobody disturbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from repro.harness.runs.store import RunFolder
from tests.harness.processes import timeless
from tests.slurm.conftest import WAIT, Lab

STEPS = 800
LONG = ("train.epochs=200", "eval.every_epochs=100", "--scale", "smoke")


def weights(folder: RunFolder) -> dict[str, Any]:
    state = torch.load(folder.path / "checkpoints" / "last.pt", weights_only=True)
    assert state["step"] == STEPS
    return {f"{net}.{k}": v for net in ("student", "teacher") for k, v in state[net].items()}


def wait_for_attempt(lab: Lab, folder: RunFolder, number: int) -> None:
    lab.wait(lambda: folder.read_run().attempts >= number, f"attempt {number}")


def events(folder: RunFolder) -> list[str]:
    lines = (folder.path / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_two_nodes_preempted_twice_and_requeued_once_end_with_the_same_weights(
    lab: Lab, tmp_path: Path
) -> None:
    profile = lab.profile(gpus=1, gpus_per_node=1, resources={"ranks": 2})
    undisturbed = Lab(lab.cluster, tmp_path / "undisturbed")
    undisturbed.folder.mkdir()
    processes = [each.start("train", *LONG, "--cluster", profile) for each in (lab, undisturbed)]

    for stop in range(3):
        folder = lab.wait_for_step(50 + 150 * stop)
        attempt = folder.read_run().attempts
        job = lab.job(folder)
        if stop < 2:
            lab.cluster.run("scancel", "--signal=USR2", job)
        else:
            lab.cluster.run("scontrol", "requeue", job)
        stopped = folder.step
        assert stopped < STEPS, "the run was over before it could be disturbed"
        wait_for_attempt(lab, folder, attempt + 1)

    for process in processes:
        output, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0, output + lab.told()
    (folder,), (other,) = lab.runs, undisturbed.runs
    assert folder.read_run().attempts == 4
    assert other.read_run().attempts == 1
    assert events(folder).count("requeued") == 2
    assert (folder.path / "log.rank1.txt").exists()
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []
    assert timeless(folder.metrics()) == timeless(other.metrics())
    # The log is told apart by attempt.
    third = lab.repro("logs", folder.id, "--attempt", "3")
    assert "=== attempt 3" in third
    assert "=== attempt 4" not in third


def test_a_time_limit_is_lived_through_by_starting_again(lab: Lab) -> None:
    """SLURM warns 30 s before the limit of a minute; the run needs longer than that."""
    words = ("train.epochs=4000", "eval.every_epochs=4000", "--scale", "smoke")
    process = lab.start("train", *words, "--cluster", lab.profile(minutes=1))
    try:
        lab.wait(lambda: lab.runs and lab.runs[0].read_run().attempts == 2, "a second start")
        (folder,) = lab.runs
        requeued = [e for e in _lines(folder) if e["event"] == "requeued"]
        assert [e["reason"] for e in requeued] == ["its time limit is near"]
        log = (folder.path / "log.txt").read_text()
        stopped = next(e["step"] for e in _lines(folder) if e["event"] == "interrupted")
        lab.wait(
            lambda: f"step {stopped} of 16000" in (folder.path / "log.txt").read_text(), "resume"
        )
        assert "step 0 of 16000" in log
    finally:
        lab.repro("cancel", "--yes")
        process.communicate(timeout=WAIT)
    assert lab.status()[0]["state"] == "cancelled"


def test_a_run_that_is_preempted_too_often_says_so_and_keeps_its_checkpoint(lab: Lab) -> None:
    words = ("train.epochs=4000", "eval.every_epochs=4000", "--scale", "smoke")
    process = lab.start("train", *words, "--cluster", lab.profile(requeues=0))
    folder = lab.wait_for_step(20)
    lab.cluster.run("scancel", "--signal=USR2", lab.job(folder))
    output, _ = process.communicate(timeout=WAIT)
    found = lab.status()[0]
    assert (found["state"], found["kind"]) == ("failed", "preempted"), output
    assert "no more are allowed" in found["cause"]
    assert (folder.path / "checkpoints" / "last.pt").exists()


def _lines(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]
