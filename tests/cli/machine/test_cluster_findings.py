"""The doctor of a cluster: every answer SLURM may give, as a finding with its fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from repro.cli.machine.cluster_findings import examine_cluster
from repro.harness.experiments.clusters import SlurmCluster
from tests.cli.machine.clusters import CLUSTER, SETTINGS, answer_the_probe, findings, healthy, of
from tests.harness.scripted import Scripted, scripted

__all__ = ["healthy", "scripted"]


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
        ("= OFF", "= REQUEUE\nPreemptType = preempt/none", "no preemption", "ok", "time limit"),
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
    ("partition", "signal", "level", "part"),
    [
        ("PreemptMode=REQUEUE GraceTime=0", True, "warn", "killed at once"),
        ("PreemptMode=REQUEUE GraceTime=120", False, "ok", "SIGTERM and 120 s (GraceTime)"),
        ("PreemptMode=REQUEUE GraceTime=120", True, "ok", "a warning and 120 s (GraceTime)"),
        ("PreemptMode=CANCEL GraceTime=120", False, "warn", "cancelled, not queued again"),
        ("PreemptMode=OFF GraceTime=0", False, "ok", "jobs run to their time limit"),
    ],
)
def test_preemption_is_the_partitions(
    healthy: Scripted, tmp_path: Path, partition: str, signal: bool, level: str, part: str
) -> None:
    text = SETTINGS.replace("= OFF", "= REQUEUE")
    if signal:
        text = text.replace("(null)", "preempt_send_user_signal")
    others = "PartitionName=cheap Default=NO\n PreemptMode=CANCEL GraceTime=5\n\n"
    healthy.answer("scontrol", f"{text}\n{others}PartitionName=gpu Default=YES\n {partition}\n")
    finding = of(tmp_path, "no preemption" if "OFF" in partition else "preemption")
    assert finding.level == level
    assert part in finding.meaning


@pytest.mark.parametrize(
    ("default", "wckey", "shell", "level", "part"),
    [
        ("", "", "", "warn", "jobs may be refused"),
        ("", "dino", "", "ok", "dino is sent"),
        ("", "", "shells", "ok", "shells is sent"),
        ("mine", "", "", "ok", "yours is mine"),
    ],
)
def test_wckeys_where_they_are_enforced(
    healthy: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    default: str, wckey: str, shell: str, level: str, part: str,
) -> None:  # fmt: skip
    healthy.answer("scontrol", SETTINGS + "AccountingStorageEnforce = associations,wckeys\n")
    healthy.answer("sacctmgr", f"{default}\n")
    monkeypatch.setenv("SBATCH_WCKEY", shell)
    finding = of(tmp_path, "wckeys are enforced", structs.replace(CLUSTER, wckey=wckey))
    assert finding.level == level
    assert part in finding.meaning


def test_hidden_jobs_of_others_are_told(healthy: Scripted, tmp_path: Path) -> None:
    healthy.answer("scontrol", SETTINGS + "PrivateData = jobs,usage\n")
    assert of(tmp_path, "PrivateData=jobs").level == "ok"


def test_the_partition_of_the_users_shell_counts_where_the_profile_names_none(
    healthy: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "fast")
    healthy.answer("sinfo", "fast|up|infinite|4|idle\n")
    assert of(tmp_path, "fast").level == "ok"
    assert any("--partition=fast" in call for call in healthy.calls("sinfo"))
