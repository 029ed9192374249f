"""A SLURM for the doctor: healthy, until a test says otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repro.cli.machine.cluster_findings import examine_cluster
from repro.cli.machine.machine_findings import Finding
from repro.harness.experiments.clusters import SlurmCluster
from tests.harness.scripted import Scripted

CLUSTER = SlurmCluster(name="mine", gpus=1, cpus=2, memory_gb=8, minutes=90)
SETTINGS = """\
AccountingStorageType   = accounting_storage/slurmdbd
JobRequeue              = 1
MaxArraySize            = 1001
MaxJobCount             = 10000
PreemptMode             = OFF
SlurmctldParameters     = (null)
SLURM_VERSION           = 23.11.4
"""


@pytest.fixture
def healthy(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted.answer("scontrol", SETTINGS)
    scripted.answer("sinfo", "gpu*|up|2-00:00:00|4|idle\n")
    monkeypatch.setattr("repro.cli.machine.node_findings.START_SECONDS", 0.1)
    monkeypatch.setattr("repro.cli.machine.node_findings.POLL_SECONDS", 0.01)
    monkeypatch.setattr("repro.cli.machine.node_findings.LATE_SECONDS", 0.0)
    return scripted


def findings(results: Path, cluster: SlurmCluster = CLUSTER) -> dict[str, Finding]:
    by_what = {finding.what: finding for finding in examine_cluster(cluster, results)}
    # Each says what it means, and how to mend what is wrong.
    assert all(f.meaning and (f.fix or f.level == "ok") for f in by_what.values()), by_what
    return by_what


def of(results: Path, start: str, cluster: SlurmCluster = CLUSTER) -> Finding:
    return next(f for what, f in findings(results, cluster).items() if what.startswith(start))


def answer_the_probe(
    monkeypatch: pytest.MonkeyPatch, results: Path, reaches: bool | None = True, **changes: Any
) -> None:
    """A test job ran, and wrote this."""
    node: dict[str, Any] = {
        "host": "n1", "time": 100.0, "written": 100.5, "cpus": 2, "visible": "0",
        "cuda": "NVIDIA H200", "import_": "", "seconds": 2.0, "scontrol": True, "lock": "",
        "checkpoint_seconds": 3.0, "data": {},
    }  # fmt: skip
    answer = results / "answer.json"
    told = node | changes

    def send(cluster: SlurmCluster, results: Path) -> tuple[str, Path]:
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_text(json.dumps(told))
        return "7", answer

    monkeypatch.setattr("repro.cli.machine.node_findings.send_probe", send)
    monkeypatch.setattr("repro.cli.machine.node_findings.lock_reaches", lambda _: reaches)
