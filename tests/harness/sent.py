"""A run that was handed to SLURM, for the tests of what status says of it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from repro.config.schema import RunConfig
from repro.harness.runs.store import create_run
from repro.harness.slurm.submissions import EVALUATE, TRAIN, Array, Submission
from repro.harness.status.overview import View, overview
from tests.conftest import MakeConfig

LONG_AGO = 3600.0
ELSEWHERE = "another-host"


class Sent:
    """A run that was handed to SLURM as task 0 of job 101."""

    def __init__(self, results: Path, config: RunConfig, sent_ago: float = LONG_AGO) -> None:
        self.results = results
        self.folder = create_run(results / "runs", "one", config)
        folder = results / "submissions" / "s1"
        folder.mkdir(parents=True)
        self.submission = Submission(
            folder, time.time() - sent_ago, "me", socket.gethostname(), os.getpid(), "mine", "code",
            [Array("repro-s1-0", TRAIN, [[self.folder.id]], {"memory_gb": 1}, "101"),
             Array("repro-s1-1", EVALUATE, [[self.folder.id]], {"memory_gb": 1}, "102")],
            complete=True,
        )  # fmt: skip
        self.submission.save()

    def view(self) -> View:
        return overview([self.folder], self.results).views[self.folder.id]

    def notes(self) -> str:
        return " ".join(overview([self.folder], self.results).notes)

    def write_log(self, text: str, job: str = "101") -> None:
        jobs = self.submission.folder / "jobs"
        jobs.mkdir(exist_ok=True)
        (jobs / f"{job}_0_log.out").write_text(text)

    def running_elsewhere(self, heartbeat_ago: float, started_ago: float = 600) -> None:
        """Another host trains it, or did until some time ago."""
        now = time.time()
        self.folder.update_run(
            state="running", host=ELSEWHERE, started=now - started_ago, attempts=1
        )
        self.folder.beat()
        os.utime(self.folder.path / "heartbeat", (now - heartbeat_ago, now - heartbeat_ago))


@pytest.fixture
def sent(tmp_path: Path, smoke: MakeConfig) -> Sent:
    return Sent(tmp_path / "results", smoke())


def queued(state: str, reason: str = "None", age: str = "0:00", name: str = "repro-s1-0") -> str:
    return f"101|N/A|{state}|{reason}|n7|{age}|{name}\n"


def ended(state: str, code: str = "0:0", job: str = "101", name: str = "repro-s1-0") -> str:
    return f"{job}|{state}|{code}|n7|{name}\n"
