"""Preempted, requeued, continued: the weights are those of a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from repro.harness.runs.store import RunFolder, hold
from tests.harness.processes import timeless
from tests.slurm.conftest import WAIT, Lab, write_images

STEPS = 800
LONG = ("train.epochs=200", "eval.every_epochs=100", "--scale", "smoke")


def weights(folder: RunFolder, steps: int = STEPS) -> dict[str, Any]:
    state = torch.load(folder.path / "checkpoints" / "last.pt", weights_only=True)
    assert state["step"] == steps
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


def test_taken_away_with_and_without_grace_files_and_decoders_end_with_the_same_weights(
    lab: Lab, tmp_path: Path
) -> None:
    """A partition of higher priority takes the node: SIGTERM to every process, then the kill."""
    images = write_images(tmp_path / "images")
    data = ("data=folder", "data.name=crops", f"paths.data={images}", "data.resolution=32")
    words = ("train", *data, "train.epochs=200", "eval.every_epochs=200", "--scale", "smoke")
    profile = lab.profile(resources={"data_workers": 2}, cpus=2, memory_gb=5.0)
    undisturbed = Lab(lab.cluster, tmp_path / "undisturbed")
    undisturbed.folder.mkdir()
    processes = [lab.start(*words, "--cluster", profile), undisturbed.start(*words)]
    try:
        for stop, grace in enumerate((6, 0, 6)):
            lab.cluster.run("scontrol", "update", "partition=debug", f"gracetime={grace}")
            folder = lab.wait_for_step(20 + 60 * stop)
            attempt = folder.read_run().attempts
            take_its_node(lab, folder)
            wait_for_attempt(lab, folder, attempt + 1)
            assert folder.step < 400, "the run was over before it could be disturbed"
    finally:
        lab.cluster.run("scontrol", "update", "partition=debug", "gracetime=0")
    tables = []
    for process in processes:
        output, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0, output + lab.told()
        tables.append(re.findall(r"(?m)^((?!time_h|im_s|mem_G)\w+) +([\d.e+-]+)$", output))
    assert dict(tables[0])["knn"]
    assert tables[0] == tables[1]
    (folder,), (other,) = lab.runs, undisturbed.runs
    assert events(folder).count("interrupted") >= 2, lab.told()  # saved when told to stop
    assert "failed" not in events(folder)
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")]
    ours, theirs = weights(folder, 400), weights(other, 400)
    assert ours.keys() == theirs.keys()
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []
    assert timeless(folder.metrics()) == timeless(other.metrics())


def take_its_node(lab: Lab, folder: RunFolder) -> None:
    node = lab.cluster.run("squeue", "-h", f"--jobs={lab.job(folder)}", "--format=%N").strip()
    lab.cluster.run(
        "sbatch", "--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null",
        "--chdir=/", "--wrap=sleep 3",
    )  # fmt: skip


def test_a_warning_in_the_first_moments_of_a_job_ends_nothing(lab: Lab) -> None:
    """USR2 ends a Python that has not listened yet; SLURM would not start the job again."""
    lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", lab.profile(), "--yes")
    running = ("squeue", "--noheader", "--states=RUNNING", "--format=%i")
    for _ in range(200):
        if job := lab.cluster.run(*running).strip():
            break
        time.sleep(0.05)
    for _ in range(10):
        lab.cluster.run("scancel", "--signal=USR2", job, check=False)
        time.sleep(0.05)
    lab.repro("status", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")]


def test_an_evaluation_that_is_warned_starts_again_and_at_its_limit_says_so(lab: Lab) -> None:
    lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", lab.profile(), "--yes")
    (folder,) = lab.runs
    lock = folder.path / "evaluations" / ".lock"
    lock.parent.mkdir(exist_ok=True)
    with hold(lock, "the evaluation came first"):
        # It waits for us, so that it is underway for as long as we like.
        lab.wait(lambda: users_of(lock), "the evaluation")
        job = lab.cluster.run("squeue", "--noheader", "--format=%i").strip()
        lab.cluster.run("scancel", "--signal=USR2", job)
        lab.wait(lambda: not users_of(lock), "its end")
        lab.wait(lambda: lab.status()[0]["evaluation"] == "waiting", "the queue")
        lab.wait(lambda: users_of(lock), "another start of it")
        lab.cluster.run("scontrol", "update", f"jobid={job}", "timelimit=1")
        lab.wait(lambda: lab.status()[0]["evaluation"] == "failed", "its time limit")
    assert [e["reason"] for e in _lines(folder) if e["event"] == "requeued"] == ["preempted"]
    assert "evaluation knn: its time limit is near" in lab.status()[0]["evaluation_cause"]
    lab.repro("retry", "--only", "timeout", "--time", "+50%", "--yes")
    lab.repro("status", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")]


def users_of(path: Path) -> list[int]:
    """Other processes that have this file open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(path) in map(os.readlink, (entry / "fd").iterdir()):
                found.append(int(entry.name))
    return [process for process in found if process != os.getpid()]


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


def test_a_job_that_people_suspend_hold_and_release_goes_on(lab: Lab) -> None:
    words = ("train.epochs=100", "eval.every_epochs=100", "--scale", "smoke")
    process = lab.start("train", *words, "--cluster", lab.profile())
    folder = lab.wait_for_step(20)
    job = lab.job(folder)
    lab.cluster.run("scontrol", "suspend", job)
    lab.wait(lambda: "SUSPENDED" in lab.cluster.run("squeue", "-h", "--format=%T"), "a pause")
    (run,) = lab.status()
    assert (run["state"], run["job"]) == ("running", job)
    lab.cluster.run("scontrol", "resume", job)
    lab.wait_for_step(folder.step + 20)
    lab.cluster.run("scontrol", "requeuehold", job)
    run = lab.wait_for_state("queued", 60)
    assert "JobHeldUser" in run["detail"] or "job requeued in held state" in run["detail"], run
    lab.cluster.run("scontrol", "release", job)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, output + lab.told()
    assert folder.read_run().attempts == 2
    assert timeless(folder.metrics())[-1]["step"] == STEPS // 2
