"""The doctor of a cluster: every answer SLURM may give, as a finding with its fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from repro.cli.machine.cluster_findings import examine_cluster
from repro.cli.machine.machine_findings import Finding
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.slurm.probe import probe
from tests.harness.scripted import Scripted, scripted

__all__ = ["scripted"]
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
    monkeypatch.setattr("repro.cli.machine.cluster_findings.PROBE_SECONDS", 0.1)
    monkeypatch.setattr("repro.cli.machine.cluster_findings.LATE_SECONDS", 0.0)
    return scripted


def findings(results: Path, cluster: SlurmCluster = CLUSTER) -> dict[str, Finding]:
    by_what = {finding.what: finding for finding in examine_cluster(cluster, results)}
    # Each says what it means, and how to mend what is wrong.
    assert all(f.meaning and (f.fix or f.level == "ok") for f in by_what.values()), by_what
    return by_what


def of(results: Path, start: str, cluster: SlurmCluster = CLUSTER) -> Finding:
    return next(f for what, f in findings(results, cluster).items() if what.startswith(start))


def answer_the_probe(monkeypatch: pytest.MonkeyPatch, results: Path, **changes: Any) -> None:
    """A test job ran, and wrote this."""
    node: dict[str, Any] = {
        "host": "n1", "time": 100.0, "written": 100.5, "cpus": 2, "visible": "0",
        "cuda": "NVIDIA H200", "import": "", "seconds": 2.0,
    }  # fmt: skip
    answer = results / "answer.json"

    def send(cluster: SlurmCluster, results: Path) -> tuple[str, Path]:
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_text(json.dumps(node | changes))
        return "7", answer

    monkeypatch.setattr("repro.cli.machine.cluster_findings.send_probe", send)


def test_a_healthy_cluster_has_nothing_to_mend(
    healthy: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_the_probe(monkeypatch, tmp_path)
    by_what = findings(tmp_path)
    assert {finding.level for finding in by_what.values()} == {"ok"}, by_what
    assert "SLURM 23.11.4" in by_what
    assert "forgets" in by_what["SLURM 23.11.4"].meaning
    assert by_what["GPUs of a job"].meaning == "1 x NVIDIA H200"


def test_a_slurm_that_does_not_answer_is_the_only_finding(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.answer("scontrol", code=1)
    (finding,) = examine_cluster(CLUSTER, tmp_path)
    assert finding.level == "fail"
    assert "login node" in finding.fix


@pytest.mark.parametrize(
    ("old", "new", "what", "level", "part"),
    [
        ("slurmdbd", "none", "no accounting", "warn", "run folders and job logs"),
        ("= OFF", "= REQUEUE", "preemption: REQUEUE", "warn", "not warned"),
        ("= 1001", "= 1", "arrays to 1", "fail", "switched off"),
        ("= 23.11.4", "= 21.08.1", "SLURM 21.08.1", "ok", "inherits"),
    ],
)
def test_what_the_settings_tell(
    healthy: Scripted, tmp_path: Path, old: str, new: str, what: str, level: str, part: str
) -> None:
    healthy.answer("scontrol", SETTINGS.replace(old, new))
    finding = of(tmp_path, what)
    assert finding.level == level
    assert part in finding.meaning


def test_preemption_with_a_warning_is_fine(healthy: Scripted, tmp_path: Path) -> None:
    text = SETTINGS.replace("= OFF", "= REQUEUE").replace("(null)", "preempt_send_user_signal")
    healthy.answer("scontrol", text)
    assert of(tmp_path, "preemption").level == "ok"


def test_an_accounting_that_is_down_is_told_from_one_that_is_not_there(
    healthy: Scripted, tmp_path: Path
) -> None:
    healthy.answer("sacct", code=1)
    assert of(tmp_path, "accounting is down").level == "warn"


@pytest.mark.parametrize(
    ("sinfo", "cluster", "level", "part"),
    [
        ("", CLUSTER, "fail", "there is none"),
        ("gpu*|down|1:00|4|down\n", CLUSTER, "warn", "jobs wait"),
        ("gpu*|up|1:00:00|4|idle\n", CLUSTER, "fail", "asks for 90 minutes"),
        ("fast|up|infinite|4|idle\n", structs.replace(CLUSTER, partition="fast"), "ok", "4 idle"),
    ],
)
def test_the_partition_is_there_up_and_long_enough(
    healthy: Scripted, tmp_path: Path, sinfo: str, cluster: SlurmCluster, level: str, part: str
) -> None:
    healthy.answer("sinfo", sinfo)
    name = cluster.partition or (sinfo.partition("|")[0] or "default partition")
    finding = of(tmp_path, name, cluster)
    assert finding.level == level
    assert part in finding.meaning


def test_a_limit_of_the_qos_is_a_key_of_the_profile(healthy: Scripted, tmp_path: Path) -> None:
    healthy.answer("sacctmgr", "normal|200||\nlong|5|1|\n")
    finding = of(tmp_path, "QOS normal")
    assert (finding.level, finding.fix) == ("warn", "max_jobs: 200 in the profile")
    assert of(tmp_path, "QOS normal", structs.replace(CLUSTER, max_jobs=200)).level == "ok"


@pytest.mark.parametrize(
    ("changes", "what", "level", "part"),
    [
        ({"time": 190.0}, "clocks of the nodes", "warn", "n1 is 90 s away"),
        ({"cpus": 1}, "CPUs of a job", "warn", "asked for 2 and may use 1"),
        ({"visible": ""}, "GPUs of a job", "fail", "asked for 1"),
        ({"cuda": ""}, "GPUs of a job", "warn", "torch sees none"),
        ({"import": "ImportError: x"}, "import torch on a node", "fail", "ImportError: x"),
    ],
)
def test_what_a_test_job_finds(
    healthy: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    what: str,
    level: str,
    part: str,
) -> None:
    answer_the_probe(monkeypatch, tmp_path, **changes)
    finding = of(tmp_path, what)
    assert finding.level == level
    assert part in finding.meaning
    assert finding.fix


def test_a_test_job_that_waits_is_taken_back(healthy: Scripted, tmp_path: Path) -> None:
    healthy.answer("squeue", "PENDING Resources\n")
    finding = of(tmp_path, "a test job")
    assert finding.level == "warn"
    assert "PENDING Resources" in finding.meaning
    assert healthy.calls("scancel") == ["101"]


def test_a_test_job_that_failed_shows_its_last_line(healthy: Scripted, tmp_path: Path) -> None:
    (tmp_path / "doctor").mkdir()
    (tmp_path / "doctor" / "101_0_log.out").write_text("bash: module: command not found\n")
    finding = of(tmp_path, "a test job")
    assert finding.level == "fail"
    assert "module: command not found" in finding.meaning


def test_a_test_job_that_left_nothing_means_a_folder_that_is_not_shared(
    healthy: Scripted, tmp_path: Path
) -> None:
    finding = of(tmp_path, "shared folder")
    assert finding.level == "fail"
    assert "REPRO_RESULTS" in finding.fix


def test_a_refused_test_job_is_the_profiles_mistake(healthy: Scripted, tmp_path: Path) -> None:
    healthy.refuse_arrays_of(0, "sbatch: error: Invalid account\n")
    finding = of(tmp_path, "a test job")
    assert (finding.level, finding.meaning) == ("fail", "sbatch refused: Invalid account")


def test_the_probe_tells_what_its_node_is(tmp_path: Path) -> None:
    probe(str(tmp_path / "answer.json"))
    node = json.loads((tmp_path / "answer.json").read_text())
    assert node["cpus"] >= 1
    assert node["import"] == ""
    assert abs(node["time"] - node["written"]) < 5
    assert list(tmp_path.iterdir()) == [tmp_path / "answer.json"]
