"""A grid in which everything goes wrong, each in its own way, is brought to its end by retries."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from repro.harness.plan import plan
from repro.harness.store import RunFolder, create_run
from tests.slurm.conftest import Lab

MINUTE = 60.0  # within which the status must tell
STAYS = {"no-requeue": True, "requeue": False}  # a job that is lost with its node
UNWARNED = {"signal": "CONT@10"}  # SLURM's SIGTERM at the time limit is all there is


def test_retries_complete_a_grid_that_met_every_ending(lab: Lab) -> None:
    folders = long_runs(lab)
    taken, killed, downed, broken, starved, late = folders
    sane = (broken.path / "config.yaml").read_text()
    broken_config = sane.replace("kind: photographs", "kind: folder")
    (broken.path / "config.yaml").write_text(broken_config)
    lengthen(late, 1000)

    submit(lab, "F7", 1, extra=STAYS | {"nodelist": "gpu1"})
    submit(lab, "F7:both", 2, memory_gb=0.15, extra={"nodelist": "gpu2"})
    submit(lab, "F7:both,centering", 2, minutes=1, extra=UNWARNED | {"nodelist": "gpu2"})

    in_training(lab, taken)
    lab.cluster.run("scancel", str(taken.read_run()["job"]))
    expect(lab, taken, "cancelled", "cancelled")
    in_training(lab, killed)
    os.kill(killed.read_run()["pid"], signal.SIGKILL)
    expect(lab, killed, "failed", "killed")
    expect(lab, broken, "failed", "data")
    in_training(lab, downed)
    lab.cluster.run("scontrol", "update", "nodename=gpu1", "state=DOWN", "reason=test")
    try:
        expect(lab, downed, ("failed", "lost"), "node")
    finally:
        lab.cluster.run("scontrol", "update", "nodename=gpu1", "state=RESUME")
    expect(lab, starved, ("failed", "lost"), "out_of_memory")
    lab.wait(lambda: not lab.cluster.run("squeue", "--noheader").strip(), "the time limit", 150)
    expect(lab, late, "failed", "timeout")
    assert "1 x time limit (--only timeout)" in lab.repro("status")

    (broken.path / "config.yaml").write_text(sane)
    lab.repro("retry", "--only", "oom", "--mem", "+1300%", "--yes")
    lab.repro("retry", "--only", "timeout", "--time", "+900%", "--yes")
    lab.repro("retry", "--yes")
    lab.repro("status", "--watch", "--every", "2")
    found = [(run["state"], run["evaluation"]) for run in lab.status()]
    assert found == [("done", "done")] * 6, lab.told()
    assert "Figure 7" in lab.repro("table", "F7", "--scale", "smoke")


def test_an_evaluation_that_is_killed_has_failed_and_is_retried(lab: Lab) -> None:
    lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", lab.profile(), "--yes")
    lab.wait(lambda: lab.runs and lab.runs[0].result() and evaluators(lab), "the evaluation")
    for process in evaluators(lab):
        os.kill(process, signal.SIGKILL)
    lab.wait(lambda: lab.status()[0]["evaluation"] == "failed", "its end", MINUTE)
    assert "killed by signal 9" in lab.status()[0]["evaluation_cause"], lab.status()
    assert "evaluation: " in lab.repro("status")
    lab.repro("retry", "--only", "killed", "--yes")
    lab.repro("status", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")]
    assert lab.runs[0].read_run()["attempts"] == 1


def long_runs(lab: Lab) -> list[RunFolder]:
    """F7's four rows of seed 0 and two of seed 1, long enough to be disturbed."""
    planned = plan(["F7"], "smoke", 2, lab.results).runs
    of_seeds = [[run for run in planned if run.seed == seed] for seed in (0, 1)]
    chosen = [*of_seeds[0], *of_seeds[1][:2]]
    order = ("both", "centering", "sharpening", "neither")
    assert [run.row for run in chosen] == [*order, *order[:2]]
    folders = [create_run(lab.results / "runs", run.slug, run.config) for run in chosen]
    for folder in folders:
        lengthen(folder, 100)
    return folders


def lengthen(folder: RunFolder, epochs: int) -> None:
    file = folder.path / "config.yaml"
    lines = file.read_text().splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.startswith("  epochs:"))
    lines[place] = f"  epochs: {epochs}"
    file.write_text("\n".join(lines) + "\n")


def submit(lab: Lab, rows: str, seeds: int, **profile: Any) -> None:
    """What is new of these rows; the rest has been sent before."""
    words = (rows, "--scale", "smoke", "--seeds", str(seeds))
    lab.repro("submit", *words, "--cluster", lab.profile(**profile), "--yes")


def in_training(lab: Lab, folder: RunFolder) -> None:
    lab.wait(lambda: (folder.last_step() or {"step": 0})["step"] >= 5, f"{folder.slug} to train")


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
