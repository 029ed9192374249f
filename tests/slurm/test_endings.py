"""Every way in which a job ends, on a real SLURM: the right state, the cause, and a way on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from repro.harness.runs.store import RunFolder
from repro.randomness import epoch_order
from tests.slurm.conftest import PROFILE, Lab, write_images

LONG = ("train.epochs=4000", "eval.every_epochs=4000", "--scale", "smoke")
MINUTE = 60.0  # within which the status must tell


@contextmanager
def training(lab: Lab, **profile: Any) -> Iterator[subprocess.Popen[str]]:
    """One long run on the cluster, in training."""
    process = lab.start("train", *LONG, "--cluster", lab.profile(**profile))
    try:
        lab.wait(lambda: process.poll() is not None or _step(lab) >= 5, "the training")
        assert process.poll() is None, process.communicate()[0]
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_scancel_is_cancelled(lab: Lab) -> None:
    with training(lab):
        lab.cluster.run("scancel", lab.job(lab.runs[0]))
        found = lab.wait_for_state("cancelled", MINUTE)
        assert found["kind"] == "cancelled"
        assert (lab.runs[0].path / "checkpoints" / "last.pt").exists()


def test_repro_cancel_stops_running_and_waiting_runs(lab: Lab) -> None:
    lab.repro("submit", "F7", "--scale", "smoke", "--cluster", lab.profile(parallel=1), "--yes")
    lab.repro("cancel", "--yes")
    lab.wait(
        lambda: {run["state"] for run in lab.status()} <= {"cancelled", "done"}, "the end", MINUTE
    )
    lab.wait(lambda: not lab.cluster.run("squeue", "--noheader").strip(), "an empty queue", MINUTE)
    lab.repro("retry", "cancelled", "--yes")
    lab.repro("status", "--watch", "--every", "2")
    assert [run["state"] for run in lab.status()] == ["done"] * 4


def test_a_killed_worker_is_failed_and_retried_to_completion(lab: Lab) -> None:
    lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", lab.profile(), "--yes")
    lab.wait(lambda: lab.runs[0].read_run().pid, "the worker")
    os.kill(lab.runs[0].read_run().pid, signal.SIGKILL)
    found = lab.wait_for_state("failed", MINUTE)
    assert found["kind"] == "killed"
    assert "SIGKILL" in found["cause"]
    said = lab.repro("status")
    assert "1 x killed from outside" in said
    assert "--mem +50%" in said

    lab.repro("retry", "--only", "killed", "--mem", "+50%", "--yes")
    lab.repro("status", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")]
    memory = lab.cluster.run(
        "sacct", "--noheader", "--allocations", "--parsable2", "--format=ReqMem",
    ).split()  # fmt: skip
    asked = 1.5 * PROFILE["memory_gb"]
    assert {f"{asked:g}G", f"{1024 * asked:.0f}M"} & set(memory)


def test_a_job_that_takes_too_much_memory_is_out_of_memory(lab: Lab) -> None:
    process = lab.start("train", *LONG, "--cluster", lab.profile(memory_gb=0.15))
    try:
        found = _ended(lab)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert found["kind"] == "out_of_memory", found
    assert "(--only oom)" in lab.repro("status")


def test_a_rank_that_dies_is_named(lab: Lab) -> None:
    with training(lab, gpus=1, gpus_per_node=1, resources={"ranks": 2}) as process:
        leader = lab.runs[0].read_run().pid
        (other,) = {pid for pid in workers(lab.runs[0]) if pid != leader}
        os.kill(other, signal.SIGKILL)
        process.communicate(timeout=MINUTE)
        found = _ended(lab)
        assert (found["state"], found["kind"]) == ("failed", "killed"), found
        assert found["cause"].startswith("rank 1: worker killed by SIGKILL")


def test_a_rank_that_fails_is_named_with_its_line(lab: Lab, tmp_path: Path) -> None:
    """An image that only rank 1 reads is cut off; its neighbour sees a connection close."""
    images = write_images(tmp_path / "images")
    seed, first = 0, 32
    order = epoch_order(seed, 0, 80)[first // 2 : first]
    files = [
        file
        for name in ("camera", "rocket")
        for file in sorted((images / "train" / name).iterdir())
    ]
    broken = files[int(order[0])]
    broken.write_bytes(broken.read_bytes()[:1000])
    two = lab.profile(gpus=1, gpus_per_node=1, resources={"ranks": 2})
    data = ("data=folder", "data.name=crops", f"paths.data={images}", "data.resolution=32")
    lab.repro("train", *data, "--scale", "smoke", "--cluster", two, code=1)
    (found,) = lab.status()
    assert (found["state"], found["kind"]) == ("failed", "data"), found
    assert found["cause"].startswith(f"rank 1: unreadable image {broken}"), found
    said = lab.repro("logs", "--lines", "60")
    assert "rank 1: === attempt of rank 1" in said
    assert f"rank 1: failed (data): unreadable image {broken}" in said


def test_a_rank_that_dies_is_named_although_its_leader_can_no_longer_speak(lab: Lab) -> None:
    """Stopped as by a collective that no exception ends; SLURM kills it with the other rank."""
    with training(lab, gpus=1, gpus_per_node=1, resources={"ranks": 2}):
        leader = lab.runs[0].read_run().pid
        (other,) = {pid for pid in workers(lab.runs[0]) if pid != leader}
        os.kill(leader, signal.SIGSTOP)
        os.kill(other, signal.SIGKILL)
        found = _ended(lab)
        assert found["kind"] == "killed", found
        assert found["cause"].startswith("rank 1: worker killed by SIGKILL"), found


def workers(folder: RunFolder) -> list[int]:
    """Processes that train this run, on either node."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"repro.harness.worker" in words and str(folder.path).encode() in words:
                found.append(int(entry.name))
    return found


def test_an_exception_is_failed_with_its_line(lab: Lab) -> None:
    diverging = ("optim.lr=1e9", "optim.clip=none", "optim.warmup_epochs=0")
    words = (*diverging, "--scale", "smoke", "--cluster", lab.profile())
    assert "1 x the loss became NaN" in lab.repro("train", *words, code=1)
    (found,) = lab.status()
    assert (found["state"], found["kind"]) == ("failed", "nan")
    assert "loss" in found["cause"]


def test_a_time_limit_without_a_warning_is_a_timeout_with_a_checkpoint(lab: Lab) -> None:
    """Where no warning is asked for, SLURM's SIGTERM at the limit is all there is."""
    with training(lab, minutes=1, warning_seconds=0):
        found = _ended(lab)
        assert (found["state"], found["kind"]) == ("failed", "timeout"), found
        assert "TIME LIMIT" in found["cause"]
        assert (lab.runs[0].path / "checkpoints" / "last.pt").exists()
        assert "--only timeout --time +50%" in lab.repro("status")


def test_a_node_that_goes_down_gives_its_run_to_another_start(lab: Lab) -> None:
    with training(lab):
        folder = lab.runs[0]
        job, node = lab.job(folder), _node(lab, lab.job(folder))
        lab.cluster.run("scontrol", "update", f"nodename={node}", "state=DOWN", "reason=test")
        try:
            lab.wait(lambda: lab.status()[0]["state"] in ("queued", "running"), "a queue", MINUTE)
            lab.wait(lambda: folder.read_run().attempts == 2, "the next start on another node")
            assert _node(lab, job) != node
        finally:
            lab.cluster.run("scontrol", "update", f"nodename={node}", "state=RESUME")


def test_a_node_that_goes_down_without_a_requeue_is_a_node_failure(lab: Lab) -> None:
    with training(lab, extra={"no-requeue": True, "requeue": False}):
        node = _node(lab, lab.job(lab.runs[0]))
        lab.cluster.run("scontrol", "update", f"nodename={node}", "state=DOWN", "reason=test")
        try:
            found = _ended(lab)
            assert found["kind"] == "node", found
        finally:
            lab.cluster.run("scontrol", "update", f"nodename={node}", "state=RESUME")


def test_without_accounting_states_come_from_the_files(lab: Lab) -> None:
    lab.cluster.stop_daemon("slurmdbd")
    try:
        lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", lab.profile(), "--yes")
        lab.wait(lambda: lab.runs[0].read_run().pid, "the worker")
        os.kill(lab.runs[0].read_run().pid, signal.SIGKILL)
        found = lab.wait_for_state("failed", MINUTE)
        assert found["kind"] == "killed"
        # Asked as soon as the job has left the queue.
        lab.wait(lambda: "sacct" in lab.repro("status"), "a word on the accounting", MINUTE)
        lab.repro("retry", "failed", "--yes")
        lab.repro("status", "--watch", "--every", "2")
        assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")]
    finally:
        lab.cluster.start_accounting()


def _ended(lab: Lab) -> dict[str, Any]:
    """The run's status, within a minute of the end of its job."""
    lab.wait(lambda: _left_the_queue(lab), "the end of its job", 150)
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(lab.status()[0] if lab.runs else {})
        return found.get("state") in ("failed", "lost")

    lab.wait(over, "an end", MINUTE)
    return found


def _left_the_queue(lab: Lab) -> bool:
    sent = [json.loads(file.read_text()) for file in lab.results.glob("submissions/*/*.json")]
    waits = lab.cluster.run("squeue", "--noheader").strip()
    return bool(sent) and all(one["complete"] for one in sent) and not waits


def _step(lab: Lab) -> int:
    return lab.runs[0].step if lab.runs else 0


def _node(lab: Lab, job: str) -> str:
    return lab.cluster.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
