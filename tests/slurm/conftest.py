"""Clusters for these tests, one a process, taken down at its end; a results folder a test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from repro.data.photographs import load_photograph
from repro.harness.runs.store import RunFolder, find_runs
from tests.slurm.cluster import Cluster, why_not

ASKED = "REPRO_TEST_SLURM"  # set by `make test-slurm`
HOW = "apt-get install its packages (tests/slurm/cluster.py), then, as root: make test-slurm"
WAIT = 300.0  # seconds; a requeued job starts again after half a minute

PROFILE: dict[str, Any] = {
    "kind": "slurm",
    "gpus": 0,
    "cpus": 1,
    # A worker has 0.95; at the moment of a fork SLURM counts it twice.
    "memory_gb": 2.0,
    "minutes": 20,
    "evaluation_minutes": 10,
    "parallel": 4,
    "warning_seconds": 30,
}


class Skipped(pytest.Module):
    """A file of these tests where nobody asked for a SLURM: says so, and how to ask."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"not asked to start a SLURM on this machine: {HOW}", allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    return None if ASKED in os.environ else Skipped.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Its grid takes longest, and is not to be begun when the others are done.
    items.sort(key=lambda item: item.path.name != "test_retry.py")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real two-node SLURM of this process, so that several may break theirs side by side; on a
    machine that cannot have one, the tests that ask for it fail.
    """
    assert not (reason := why_not()), f"{reason}; {HOW}"
    # Munge and the database refuse folders that everybody may enter and write.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/var/tmp"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Lab:
    """A user of the cluster: the `repro` command with a results folder of its own.

    `python` has it, `where` is the working directory (None: that of these tests).
    """

    cluster: Cluster
    folder: Path
    python: str = sys.executable
    where: Path | None = None

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def runs(self) -> list[RunFolder]:
        return find_runs(self.results / "runs")

    @property
    def environment(self) -> dict[str, str]:
        mine = {"REPRO_RESULTS": str(self.results), "OMP_NUM_THREADS": "1"}
        return os.environ | self.cluster.environment | mine

    def profile(self, **changes: Any) -> str:
        """The path of a profile of this cluster."""
        path = self.folder / f"lab{len(list(self.folder.glob('lab*.yaml')))}.yaml"
        path.write_text(yaml.safe_dump(PROFILE | changes))
        return str(path)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-m", "repro.cli", *words], cwd=self.where,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=self.environment,
        )  # fmt: skip

    def repro(self, *words: str, code: int | None = 0) -> str:
        """The output of a command, which must end with this exit code."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=WAIT)
        assert code is None or process.returncode == code, output
        return output

    def status(self, *patterns: str) -> list[dict[str, Any]]:
        process = self.start("status", *patterns, "--json")
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        runs: list[dict[str, Any]] = json.loads(output)["runs"]
        return runs

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = WAIT) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.told()}"
            time.sleep(0.5)

    def wait_for_state(self, state: str, seconds: float = WAIT) -> dict[str, Any]:
        """The status of the only run once it is so."""
        found: list[dict[str, Any]] = []

        def reached() -> bool:
            found[:] = self.status()
            return [run["state"] for run in found] == [state]

        self.wait(reached, f"the state {state}", seconds)
        return found[0]

    def wait_for_step(self, step: int, seconds: float = WAIT) -> RunFolder:
        def reached() -> bool:
            return bool(self.runs) and self.runs[0].step >= step

        self.wait(reached, f"step {step}", seconds)
        return self.runs[0]

    def job(self, folder: RunFolder) -> str:
        """The SLURM job that trains this run."""
        job = folder.read_run().job
        assert job is not None, "the worker was not started by SLURM"
        return str(job)

    def told(self) -> str:
        """What a failing test needs: status, queue, and the ends of all logs."""
        logs = [*self.results.glob("submissions/*/jobs/*.out"), *self.results.glob("runs/*/log*")]
        parts = [f"== {path}\n{path.read_text(errors='replace')[-1500:]}" for path in logs]
        queue = self.cluster.run("squeue", check=False)
        return "\n".join([self.repro("status", "--runs", code=None), queue, *parts])


def write_images(root: Path) -> Path:
    """80 crops of two photographs to train on, 16 to test."""
    for number in range(96):
        name = ("camera", "rocket")[number % 2]
        folder = root / ("train" if number < 80 else "val") / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = load_photograph(name).permute(1, 2, 0).numpy()
        Image.fromarray(pixels[2 * number :, number:][:48, :64]).save(folder / f"{number}.png")
    return root


@pytest.fixture
def lab(cluster: Cluster, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(cluster, tmp_path)
    yield lab
    cluster.run("scancel", "--user=root", check=False)
    lab.wait(lambda: not cluster.run("squeue", "--noheader").strip(), "an empty queue", 60)
