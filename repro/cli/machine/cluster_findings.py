"""`repro doctor --cluster`: what a SLURM cluster does that bites, found by asking and by trying.

A tiny job takes the way of every training job: the profile's setup, the snapshot of the code, the
shared folder. What it finds on its node is compared with what was asked for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repro.cli.machine.machine_findings import SKEW_LIMIT, Finding
from repro.errors import UserError
from repro.files import read_json
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.slurm import client as slurm
from repro.harness.slurm.probe import send_probe

PROBE_SECONDS = 90.0
LATE_SECONDS = 3.0  # within which a network file system shows a new file
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
    return [
        _version(settings),
        _accounting(settings),
        _preemption(settings),
        _requeue(settings),
        _limits(settings, cluster),
        *_qos(cluster),
        _partition(cluster),
        _quota(),
        *_probe(cluster, results),
    ]


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


def _preemption(settings: dict[str, str]) -> Finding:
    mode = settings.get("PreemptMode", "OFF")
    if mode == "OFF":
        return Finding("ok", "no preemption", "PreemptMode=OFF: jobs run to their time limit")
    if "preempt_send_user_signal" in settings.get("SlurmctldParameters", ""):
        return Finding("ok", f"preemption: {mode}", "with a warning, at which runs save and go on")
    return Finding(
        "warn",
        f"preemption: {mode}",
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


def _qos(cluster: SlurmCluster) -> Iterator[Finding]:
    answer = slurm.ask(
        "sacctmgr", "--noheader", "--parsable2", "show", "qos",
        "format=Name,MaxSubmitJobsPerUser,MaxJobsPerUser,GrpSubmitJobs",
    )  # fmt: skip
    for line in (answer or "").splitlines():
        name, submitted, running, everybody = (line.split("|") + [""] * 4)[:4]
        if name != (cluster.qos or "normal") or not (submitted or running or everybody):
            continue
        parts = {"jobs of yours in the queue": submitted, "of yours at a time": running,
                 "of everybody in the queue": everybody}  # fmt: skip
        limits = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
        limited = submitted.isdigit() and not cluster.max_jobs
        fix = f"max_jobs: {submitted} in the profile" if limited else ""
        yield Finding("warn" if limited else "ok", f"QOS {name}", f"allows {limits}", fix)


def _partition(cluster: SlurmCluster) -> Finding:
    only = [f"--partition={cluster.partition}"] if cluster.partition else []
    answer = slurm.ask("sinfo", "--noheader", "--format=%P|%a|%l|%D|%T", *only) or ""
    rows = [line.split("|") for line in answer.splitlines()]
    if not cluster.partition:
        rows = [row for row in rows if row[0].endswith("*")]
    if not rows:
        what = cluster.partition or "default partition"
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


def _probe(cluster: SlurmCluster, results: Path) -> Iterator[Finding]:
    """What a job finds on its node."""
    try:
        job, file = send_probe(cluster, results)
    except UserError as refused:
        yield Finding("fail", "a test job", str(refused), "mend the profile; sbatch names the key")
        return
    deadline = time.monotonic() + PROBE_SECONDS
    while (node := read_json(file)) is None and time.monotonic() < deadline:
        time.sleep(0.5)
        if slurm.gone(job):
            time.sleep(LATE_SECONDS)
            node = read_json(file)
            break
    if node is None:
        yield _silent(job, file)
        return
    file.unlink()
    yield Finding("ok", f"a test job on {node['host']}", "started, and wrote where we read")
    skew = node["time"] - node["written"]
    if abs(skew) > SKEW_LIMIT:
        meaning = f"{node['host']} is {skew:.0f} s away from the file server: living runs look lost"
        yield Finding("warn", "clocks of the nodes", meaning, "synchronise the clocks (NTP)")
    else:
        yield Finding("ok", "clocks of the nodes", f"agree within {SKEW_LIMIT:.0f} s")
    yield _cpus(node, cluster)
    yield _gpus(node, cluster)
    if node["import"]:
        fix = "setup: lines of the profile, or python: of an environment the nodes have"
        yield Finding("fail", "import torch on a node", node["import"], fix)
    else:
        yield Finding("ok", "import torch on a node", f"took {node['seconds']:.1f} s")


def _silent(job: str, file: Path) -> Finding:
    """A probe without an answer: it waits, it failed, or its file never came over."""
    queued = slurm.ask("squeue", "--noheader", f"--jobs={job}", "--format=%T %r")
    if queued and queued.strip():
        slurm.cancel([job])
        meaning = f"no answer within {PROBE_SECONDS:.0f} s: {queued.strip()}; taken back"
        return Finding("warn", "a test job", meaning, "ask again when the cluster is less busy")
    log = next(iter(sorted(file.parent.glob(f"{job}*.out"))), None)
    lines = log.read_text(errors="replace").strip().splitlines() if log else []
    if lines:
        meaning = f"failed: {lines[-1]}"
        return Finding("fail", "a test job", meaning, f"{log} tells all; mend setup: or python:")
    return Finding(
        "fail",
        "shared folder",
        f"a job ended and nothing of it is to be seen in {file.parent}",
        "set REPRO_RESULTS to a folder that the nodes share and may write to",
    )


def _cpus(node: dict[str, Any], cluster: SlurmCluster) -> Finding:
    got = node["cpus"]
    if got < cluster.cpus:
        meaning = f"a job asked for {cluster.cpus} and may use {got}: data loaders will starve"
        return Finding("warn", "CPUs of a job", meaning, "look at TaskPlugin and srun: options")
    return Finding("ok", "CPUs of a job", f"{cluster.cpus} asked for, {got} usable")


def _gpus(node: dict[str, Any], cluster: SlurmCluster) -> Finding:
    got = [name for name in node["visible"].split(",") if name]
    if not cluster.gpus:
        return Finding("ok", "GPUs of a job", "none asked for")
    if len(got) < cluster.gpus:
        meaning = f"asked for {cluster.gpus}, CUDA_VISIBLE_DEVICES={node['visible']!r}"
        fix = "gpus: of the profile, or extra: {gres: gpu:1} where --gpus-per-node is unknown"
        return Finding("fail", "GPUs of a job", meaning, fix)
    if not node["cuda"]:
        meaning = f"SLURM gave {len(got)}, torch sees none: runs would train on the CPU"
        return Finding("warn", "GPUs of a job", meaning, "install a torch built for their driver")
    return Finding("ok", "GPUs of a job", f"{len(got)} x {node['cuda']}")
