"""`repro doctor --cluster`: what a SLURM cluster does that bites, found by asking and by trying."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repro.cli.machine.machine_findings import Finding
from repro.cli.machine.node_findings import examine_node
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.slurm import client as slurm

FORGETS_CPUS = (22, 5)  # from this version on srun does not inherit --cpus-per-task


def examine_cluster(cluster: SlurmCluster, results: Path) -> list[Finding]:
    """All findings, most basic first."""
    settings = slurm.settings()
    if settings is None:
        return [
            Finding(
                "fail",
                "SLURM does not answer",
                "scontrol show config gives nothing: no job can be sent from here",
                "use a login node, load the SLURM module, or ask whether the controller is down",
            )
        ]
    preemption = preemption_of(settings, cluster)
    return [
        _version(settings),
        _accounting(settings),
        _preemption(preemption),
        _requeue(settings),
        _limits(settings, cluster),
        *_private(settings),
        *_wckeys(settings, cluster),
        *_qos(cluster),
        _partition(cluster),
        _quota(),
        *examine_node(cluster, results, preemption.grace if preemption.mode != "OFF" else None),
    ]


@dataclass(frozen=True)
class Preemption:
    """How jobs of a profile are preempted; `grace` in seconds, None where SLURM does not tell."""

    mode: str
    warned: bool
    grace: float | None


def preemption_of(settings: dict[str, str], cluster: SlurmCluster) -> Preemption:
    """The partition's where it has its own, or the QOS's where these decide."""
    if settings.get("PreemptType") == "preempt/none":
        return Preemption("OFF", warned=False, grace=None)
    told = slurm.ask("scontrol", "show", "partition") or ""
    mine = next((part for part in told.split("\n\n") if _is_mine(part, cluster)), "")
    mode, grace = (re.search(rf"\b{key}=(\S+)", mine) for key in ("PreemptMode", "GraceTime"))
    seconds = float(grace[1]) if grace and grace[1].isdigit() else None
    if "qos" in settings.get("PreemptType", ""):
        seconds = _grace_of_qos(cluster)
    return Preemption(
        mode[1] if mode else settings.get("PreemptMode", "OFF"),
        "preempt_send_user_signal" in settings.get("SlurmctldParameters", ""),
        seconds,
    )


def _is_mine(part: str, cluster: SlurmCluster) -> bool:
    name = wished(cluster, "partition")
    return f"PartitionName={name}" in part.split() if name else "Default=YES" in part.split()


def wished(cluster: SlurmCluster, key: str) -> str:
    """What the profile says, or where it is silent the user's shell."""
    return str(getattr(cluster, key)) or os.environ.get(f"SBATCH_{key.upper()}", "")


def _grace_of_qos(cluster: SlurmCluster) -> float | None:
    name = wished(cluster, "qos") or "normal"
    answer = slurm.ask(
        "sacctmgr", "--noheader", "--parsable2", "show", "qos", name, "format=GraceTime"
    )
    return slurm.seconds(answer.strip()) if answer else None


def _version(settings: dict[str, str]) -> Finding:
    version = settings.get("SLURM_VERSION", "?")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers >= FORGETS_CPUS:
        meaning = "srun forgets --cpus-per-task here; our script says it again to every step"
    else:
        meaning = "srun inherits --cpus-per-task"
    return Finding("ok", f"SLURM {version}", meaning)


def _accounting(settings: dict[str, str]) -> Finding:
    kind = settings.get("AccountingStorageType", "(null)")
    if "slurmdbd" not in kind:
        return Finding(
            "warn",
            "no accounting",
            f"AccountingStorageType={kind}: sacct cannot tell how a vanished job ended; states "
            "come from run folders and job logs, causes may stay unknown",
            "nothing breaks; administrators who want causes set up slurmdbd",
        )
    begun = time.monotonic()
    if slurm.accounting(["repro-doctor"], time.time()) is None:
        return Finding(
            "warn",
            "accounting is down",
            "sacct does not answer: states come from run folders and job logs meanwhile",
            "nothing to do; tell the administrators if it lasts",
        )
    return Finding("ok", "accounting", f"sacct answers in {time.monotonic() - begun:.1f} s")


def _preemption(how: Preemption) -> Finding:
    if how.mode == "OFF":
        return Finding("ok", "no preemption", "PreemptMode=OFF: jobs run to their time limit")
    what = f"preemption: {how.mode}"
    if how.grace == 0:
        return Finding(
            "warn",
            what,
            "GraceTime=0: preempted jobs are killed at once, not warned: runs go on from their "
            "last checkpoint",
            "lower reporting.checkpoint_seconds, or ask the administrators for a GraceTime",
        )
    if "CANCEL" in how.mode:
        return Finding(
            "warn",
            what,
            "preempted jobs are cancelled, not queued again: runs save, and wait for you",
            "repro retry --only preempted, or a partition with PreemptMode=REQUEUE",
        )
    time = "" if how.grace is None else f" and {how.grace:.0f} s (GraceTime)"
    if how.warned:
        return Finding("ok", what, f"with a warning{time}, at which runs save and go on")
    if how.grace:
        return Finding("ok", what, f"with SIGTERM{time}, in which runs save and go on")
    return Finding(
        "warn",
        what,
        "without preempt_send_user_signal in SlurmctldParameters preempted jobs are not warned: "
        "runs go on from their last checkpoint",
        "lower reporting.checkpoint_seconds, or ask the administrators for that parameter",
    )


def _requeue(settings: dict[str, str]) -> Finding:
    if settings.get("JobRequeue", "1").startswith("1"):
        return Finding("ok", "requeue", "jobs start again after node failures")
    return Finding("ok", "requeue", "off by default here; our jobs ask for it (--requeue)")


def _limits(settings: dict[str, str], cluster: SlurmCluster) -> Finding:
    size, jobs = settings.get("MaxArraySize", "?"), settings.get("MaxJobCount", "?")
    what = f"arrays to {size}, {jobs} jobs"
    if size in ("0", "1"):
        return Finding("fail", what, "job arrays are switched off", "ask for MaxArraySize > 1")
    if size.isdigit() and cluster.max_array > int(size):
        fix = f"max_array: {size} or 0 in the profile"
        return Finding("fail", what, f"max_array: {cluster.max_array} is more than that", fix)
    return Finding("ok", what, "larger grids are split")


def _private(settings: dict[str, str]) -> Iterator[Finding]:
    if "jobs" in settings.get("PrivateData", "").split(","):
        meaning = "jobs of others are hidden: what colleagues sent shows once it has started"
        yield Finding("ok", "PrivateData=jobs", meaning)


def _wckeys(settings: dict[str, str], cluster: SlurmCluster) -> Iterator[Finding]:
    if "wckeys" not in settings.get("AccountingStorageEnforce", "").split(","):
        return
    default = slurm.ask(
        "sacctmgr", "--noheader", "--parsable2", "show", "user", getpass.getuser(),
        "format=DefaultWCKey",
    )  # fmt: skip
    if key := wished(cluster, "wckey"):
        yield Finding("ok", "wckeys are enforced", f"{key} is sent")
    elif default and default.strip():
        yield Finding("ok", "wckeys are enforced", f"yours is {default.strip()}")
    else:
        meaning = "and the profile names none, nor have you a default: jobs may be refused"
        fix = "wckey: in the profile; sacctmgr show wckey lists them"
        yield Finding("warn", "wckeys are enforced", meaning, fix)


def _qos(cluster: SlurmCluster) -> Iterator[Finding]:
    answer = slurm.ask(
        "sacctmgr", "--noheader", "--parsable2", "show", "qos",
        "format=Name,MaxSubmitJobsPerUser,MaxJobsPerUser,GrpSubmitJobs",
    )  # fmt: skip
    for line in (answer or "").splitlines():
        name, submitted, running, everybody = (line.split("|") + [""] * 4)[:4]
        if name != (wished(cluster, "qos") or "normal") or not (submitted or running or everybody):
            continue
        parts = {"jobs of yours in the queue": submitted, "of yours at a time": running,
                 "of everybody in the queue": everybody}  # fmt: skip
        limits = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
        limited = submitted.isdigit() and not cluster.max_jobs
        fix = f"max_jobs: {submitted} in the profile" if limited else ""
        yield Finding("warn" if limited else "ok", f"QOS {name}", f"allows {limits}", fix)


def _partition(cluster: SlurmCluster) -> Finding:
    wish = wished(cluster, "partition")
    only = [f"--partition={wish}"] if wish else []
    answer = slurm.ask("sinfo", "--noheader", "--format=%P|%a|%l|%D|%T", *only) or ""
    rows = [line.split("|") for line in answer.splitlines()]
    if not wish:
        rows = [row for row in rows if row[0].endswith("*")]
    if not rows:
        what = wish or "default partition"
        return Finding("fail", what, "there is none", "partition: in the profile; sinfo lists them")
    name, up, limit, *_ = rows[0]
    nodes = ", ".join(f"{row[3]} {row[4]}" for row in rows)
    if up != "up":
        return Finding("warn", name, f"is {up}: jobs wait", "choose another partition")
    most = slurm.seconds(limit)
    if most and cluster.minutes * 60 > most:
        return Finding(
            "fail",
            name,
            f"its time limit is {limit}, the profile asks for {cluster.minutes} minutes: such jobs "
            "are refused or wait for ever",
            f"minutes: {int(most // 60)} in the profile; longer runs start again by themselves",
        )
    return Finding("ok", name, f"up, time limit {limit}; nodes: {nodes}")


def _quota() -> Finding:
    if shutil.which("quota") is None:
        return Finding("ok", "disk quota", "no quota command here; the free space above counts")
    done = subprocess.run(["quota", "-w", "-s"], capture_output=True, text=True, check=False)
    if done.returncode:
        line = (done.stdout + done.stderr).strip().splitlines() or ["over a limit"]
        fix = "remove what is not needed; repro gc removes what submissions left"
        return Finding("warn", "disk quota", line[-1].strip(), fix)
    return Finding("ok", "disk quota", "within its limits")
