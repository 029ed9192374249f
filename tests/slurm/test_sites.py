"""What sites differ in, on a real SLURM: set-ups, data on the nodes' own disks, shapes of jobs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.slurm.conftest import WAIT, Lab


def birds(root: Path) -> None:
    """An image tree of two classes."""
    for part in ("train", "val"):
        for kind in ("crow", "wren"):
            folder = root / part / kind
            folder.mkdir(parents=True)
            for index in range(16):
                noise = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(noise).save(folder / f"{index}.jpg")


def test_ranks_spread_evenly_over_nodes_and_find_data_that_was_brought_to_each(lab: Lab) -> None:
    birds(lab.folder / "birds")
    node_setup = [
        f"mkdir -p {lab.folder}/$SLURMD_NODENAME",
        f"cp -r {lab.folder}/birds {lab.folder}/$SLURMD_NODENAME/",
    ]
    profile = lab.profile(
        gpus_per_node=3,  # of the four ranks two go to each node, not three and one
        resources={"ranks": 4, "data_workers": 0},
        node_setup=node_setup,
        data={"birds": f"{lab.folder}/$SLURMD_NODENAME/birds"},
    )
    words = ("data=folder", "data.name=birds", "train.epochs=1", "--scale", "smoke")
    lab.repro("train", *words, "--cluster", profile)
    (folder,) = lab.runs
    assert len(list(folder.path.glob("log.rank*.txt"))) == 3
    assert sorted(path.parent.name for path in lab.folder.glob("gpu*/birds")) == ["gpu1", "gpu2"]
    (run,) = lab.status()
    assert (run["state"], run["evaluation"]) == ("done", "done")


def test_a_module_that_is_not_there_ends_the_job_and_is_named(lab: Lab) -> None:
    profile = lab.profile(setup=["no_module load cuda/99"])
    lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", profile, "--yes")
    lab.repro("status", "--watch", "--every", "2")
    (run,) = lab.status()
    assert run["state"] in ("lost", "failed")
    assert "setup: failed on" in run["cause"]
    assert "no_module load cuda/99" in run["cause"]
    assert run["kind"] == "import"


def test_a_job_without_scontrol_beside_its_python_is_queued_again_by_its_script(lab: Lab) -> None:
    """Emulated: a container, in which none of SLURM's commands are."""
    profile = lab.profile(python=f"env PATH=/nonexistent {sys.executable}")
    words = ("train.epochs=4000", "eval.every_epochs=4000", "--scale", "smoke")
    process = lab.start("train", *words, "--cluster", profile)
    try:
        folder = lab.wait_for_step(20)
        lab.cluster.run("scancel", "--signal=USR2", lab.job(folder))
        lab.wait(lambda: folder.read_run().attempts == 2, "a second start")
    finally:
        lab.repro("cancel", "--yes")
        process.communicate(timeout=WAIT)


def test_a_set_up_that_takes_longer_than_the_job_may_is_told_as_a_time_limit(lab: Lab) -> None:
    """In the batch script, in a step of the user's, and in the one on every node, which SLURM also
    warns half a minute before."""
    slow = {
        "both": {"setup": ["sleep 300"]},
        "neither": {"setup": ["srun sleep 300"]},
        "centering": {"node_setup": ["sleep 300"]},
    }
    for row, lines in slow.items():
        profile = lab.profile(minutes=1, **lines)
        lab.repro("submit", f"F7:{row}", "--scale", "smoke", "--cluster", profile, "--yes")
    lab.repro("status", "--watch", "--every", "2")
    found = {run["row"]: run for run in lab.status()}
    assert {row: run["kind"] for row, run in found.items()} == dict.fromkeys(slow, "timeout"), found
    assert "srun sleep 300" in found["neither"]["cause"]
    assert "--only timeout --time +50%" in lab.repro("status")
