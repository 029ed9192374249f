"""A grid in which everything goes wrong, each in its own way, is brought to its end by retries."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from repro.harness.experiments.folders import experiments_dir
from repro.harness.plan.plan import plan
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.store import RunFolder, create_run
from tests.slurm.conftest import WAIT, Lab

MINUTE = 60.0  # within which the status must tell
STAYS = {"no-requeue": True, "requeue": False}  # a job that is lost with its node
UNWARNED = {"warning_seconds": 0}  # SLURM's SIGTERM at the time limit is all there is


def test_retries_complete_a_grid_that_met_every_ending(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(long_experiments(lab))
    folders = {f"{run.row} {run.seed}": made(lab, run) for run in planned(lab)}
    taken, killed = folders["both 0"], folders["centering 0"]
    downed, broken = folders["sharpening 0"], folders["neither 0"]
    starved, late = folders["both 1"], folders["centering 1"]
    shutil.rmtree(broken.path / "checkpoints")
    (broken.path / "checkpoints").write_text("no folder")

    submit(lab, "F7:both,centering,neither", 1, extra=STAYS | {"nodelist": "gpu1"})
    submit(lab, "F7:both", 2, memory_gb=0.15, extra={"nodelist": "gpu2"})
    submit(lab, "F7:centering", 2, minutes=1, extra={"nodelist": "gpu2"}, **UNWARNED)
    in_training(lab, taken)
    lab.cluster.run("scancel", str(taken.read_run().job))
    in_training(lab, killed)
    os.kill(killed.read_run().pid, signal.SIGKILL)
    in_training(lab, late)
    os.kill(late.read_run().pid, signal.SIGSTOP)  # until SLURM ends it, at its minute
    expect(lab, taken, "cancelled", "cancelled")
    expect(lab, killed, "failed", "killed")
    expect(lab, broken, "failed", "data")
    expect(lab, starved, ("failed", "lost"), "out_of_memory")
    submit(lab, "F7:sharpening", 1, extra=STAYS | {"nodelist": "gpu1"})
    in_training(lab, downed)
    lab.cluster.run("scontrol", "update", "nodename=gpu1", "state=DOWN", "reason=test")
    try:
        expect(lab, downed, ("failed", "lost"), "node")
    finally:
        lab.cluster.run("scontrol", "update", "nodename=gpu1", "state=RESUME")
    lab.wait(lambda: not lab.cluster.run("squeue", "--noheader").strip(), "the time limit", 150)
    expect(lab, late, ("failed", "lost"), "timeout")
    assert "1 x time limit (--only timeout)" in lab.repro("status")

    (broken.path / "checkpoints").unlink()
    (broken.path / "checkpoints").mkdir()
    lab.repro("retry", "--only", "oom", "--mem", "+1300%", "--yes")
    lab.repro("retry", "--only", "timeout", "--time", "+900%", "--yes")
    lab.repro("retry", "--yes")
    lab.wait(lambda: {(run["state"], run["evaluation"]) for run in lab.status()} ==
             {("done", "done")}, "the whole grid", 2 * WAIT)  # fmt: skip
    assert len(lab.status()) == 6
    assert "Figure 7" in lab.repro("table", "F7", "--scale", "smoke")


def test_an_evaluation_that_is_killed_has_failed_and_is_retried(lab: Lab) -> None:
    lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", lab.profile(), "--yes")
    lab.wait(lambda: lab.status()[0]["evaluation"] == "running", "the evaluation")
    lab.wait(lambda: evaluators(lab), "its process")
    for process in evaluators(lab):
        os.kill(process, signal.SIGKILL)
    lab.wait(lambda: lab.status()[0]["evaluation"] == "failed", "its end", MINUTE)
    assert "Killed" in lab.status()[0]["evaluation_cause"], lab.status()
    assert "evaluation: " in lab.repro("status")
    lab.repro("retry", "--only", "killed", "--yes")
    lab.repro("status", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")]
    assert lab.runs[0].read_run().attempts == 1


def long_experiments(lab: Lab) -> Path:
    """A place whose smoke scale takes long enough to be disturbed."""
    shutil.copytree(experiments_dir(), lab.folder / "experiments")
    scale = lab.folder / "experiments" / "scales" / "smoke.yaml"
    text = scale.read_text()
    assert "  epochs: 2\n" in text
    scale.write_text(text.replace("  epochs: 2\n", "  epochs: 100\n"))
    return lab.folder


def planned(lab: Lab) -> list[PlannedRun]:
    """F7's four rows of seed 0 and two of seed 1."""
    runs = plan(["F7"], "smoke", 2, lab.results).runs
    return [run for run in runs if run.seed == 0 or run.row in ("both", "centering")]


def made(lab: Lab, run: PlannedRun) -> RunFolder:
    return create_run(lab.results / "runs", run.slug, run.config)


def submit(lab: Lab, rows: str, seeds: int, **profile: Any) -> None:
    """What is new of these rows; the rest has been sent before."""
    words = (rows, "--scale", "smoke", "--seeds", str(seeds))
    lab.repro("submit", *words, "--cluster", lab.profile(**profile), "--yes")


def in_training(lab: Lab, folder: RunFolder) -> None:
    lab.wait(lambda: folder.step >= 5, f"{folder.slug} to train")


def expect(lab: Lab, folder: RunFolder, state: str | tuple[str, ...], kind: str) -> None:
    """The status tells within a minute how this run ended and why."""
    states = (state,) if isinstance(state, str) else state

    def told() -> bool:
        (run,) = lab.status(folder.id)
        return run["state"] in states and run["kind"] == kind

    lab.wait(told, f"{folder.slug} to be {states} by {kind}", MINUTE)


def evaluators(lab: Lab) -> list[int]:
    """Processes in which an evaluation job of this lab works."""
    jobs = str(next(iter(lab.results.glob("submissions/*/jobs"))))
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            if "python" in words[0] and "submitit.core._submit" in words and jobs in words:
                found.append(int(entry.name))
    return found
