"""`repro doctor --cluster`, its second half: what a tiny job finds on a node.

The job takes the way of every training job: the profile's set-up, the snapshot of the code, the
shared folder. What it finds is compared with what was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from repro.cli.machine.machine_findings import SKEW_LIMIT, Finding
from repro.errors import UserError
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.plan.obstacles import keep_seen
from repro.harness.slurm import client as slurm
from repro.harness.slurm.probe import MINUTES, Node, lock_reaches, read_node, send_probe
from repro.harness.status.triage import decisive, last_attempt

START_SECONDS = 90.0  # in which the job is to start
POLL_SECONDS = 0.5
LATE_SECONDS = 3.0  # within which a network file system shows a new file


def examine_node(cluster: SlurmCluster, results: Path, grace: float | None) -> Iterator[Finding]:
    """What a test job finds.

    Args:
        grace: seconds that SLURM gives preempted jobs, where it preempts.
    """
    try:
        job, file = send_probe(cluster, results)
    except UserError as refused:
        yield Finding("fail", "a test job", str(refused), "mend the profile; sbatch names the key")
        return
    node = _answer(job, file)
    if node is None:
        yield _silent(job, file)
        return
    reaches = lock_reaches(file) if not node.lock else False
    file.unlink()
    yield Finding("ok", f"a test job on {node.host}", "started, and wrote where we read")
    yield _clock(node)
    yield from _locks(node, reaches)
    yield _cpus(node, cluster)
    yield _gpus(node, cluster)
    yield _import(node)
    yield _requeue(node)
    yield _saving(node, cluster, grace)
    yield from _data(node, cluster, results)


def _answer(job: str, file: Path) -> Node | None:
    """What the job wrote; it is given time to start, and then to unpack data."""
    deadline = time.monotonic() + START_SECONDS
    started = False
    while (node := read_node(file)) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        if slurm.gone(job):
            time.sleep(LATE_SECONDS)
            return read_node(file)
        if not started and _state(job).startswith("RUNNING"):
            started, deadline = True, deadline + 60.0 * MINUTES
    return node


def _state(job: str) -> str:
    return (slurm.ask("squeue", "--noheader", f"--jobs={job}", "--format=%T %r") or "").strip()


def _silent(job: str, file: Path) -> Finding:
    """A job without an answer: it waits, it failed, or its file never came over."""
    if state := _state(job):
        slurm.cancel([job])
        meaning = f"no answer within {START_SECONDS:.0f} s: {state}; taken back"
        return Finding("warn", "a test job", meaning, "ask again when the cluster is less busy")
    log = next(iter(sorted(file.parent.glob(f"{job}*.out"))), None)
    lines = [line for line in last_attempt(log) if line.strip()] if log else []
    if lines:
        own = decisive(lines)
        line = own if own != "none" else next((x for x in lines if "error: " in x), lines[-1])
        fix = f"{log} tells all; mend setup:, node_setup: or python: of the profile"
        return Finding("fail", "a test job", f"failed: {line}", fix)
    return Finding(
        "fail",
        "shared folder",
        f"a job ended and nothing of it is to be seen in {file.parent}",
        "set REPRO_RESULTS to a folder that the nodes share and may write to",
    )


def _clock(node: Node) -> Finding:
    skew = node.time - node.written
    if abs(skew) > SKEW_LIMIT:
        meaning = f"{node.host} is {skew:.0f} s away from the file server: living runs look lost"
        return Finding("warn", "clocks of the nodes", meaning, "synchronise the clocks (NTP)")
    return Finding("ok", "clocks of the nodes", f"agree within {SKEW_LIMIT:.0f} s")


def _locks(node: Node, reaches: bool | None) -> Iterator[Finding]:
    what = f"file locks from {node.host}"
    instead = "leases, files beside the locks, keep runs apart instead"
    fix = "none is needed; locks that reach all nodes (Lustre: mount with flock) answer sooner"
    if reaches:
        yield Finding("ok", what, "a lock held there keeps this machine out")
    elif node.lock:
        yield Finding("warn", what, f"none can be held there: {node.lock}; {instead}", fix)
    elif reaches is False:
        meaning = f"a lock held there does not keep this machine out: flock is local; {instead}"
        yield Finding("warn", what, meaning, fix)


def _cpus(node: Node, cluster: SlurmCluster) -> Finding:
    got = node.cpus
    if got < cluster.cpus:
        meaning = f"a job asked for {cluster.cpus} and may use {got}: data loaders will starve"
        return Finding("warn", "CPUs of a job", meaning, "look at TaskPlugin and srun: options")
    return Finding("ok", "CPUs of a job", f"{cluster.cpus} asked for, {got} usable")


def _gpus(node: Node, cluster: SlurmCluster) -> Finding:
    got = [name for name in node.visible.split(",") if name]
    if not cluster.gpus:
        return Finding("ok", "GPUs of a job", "none asked for")
    if len(got) < cluster.gpus:
        meaning = f"asked for {cluster.gpus}, CUDA_VISIBLE_DEVICES={node.visible!r}"
        fix = "gpus: and gpu_type: of the profile, or gpus_by: gres"
        return Finding("fail", "GPUs of a job", meaning, fix)
    if not node.cuda:
        meaning = f"SLURM gave {len(got)}, torch sees none: runs would train on the CPU"
        return Finding("warn", "GPUs of a job", meaning, "install a torch built for their driver")
    return Finding("ok", "GPUs of a job", f"{len(got)} x {node.cuda}")


def _import(node: Node) -> Finding:
    if node.import_:
        fix = "setup: lines of the profile, or python: of an environment the nodes have"
        return Finding("fail", "import torch on a node", node.import_, fix)
    return Finding("ok", "import torch on a node", f"took {node.seconds:.1f} s")


def _requeue(node: Node) -> Finding:
    if node.scontrol:
        return Finding("ok", "scontrol in a job", "answers: it can tell preemption from a limit")
    meaning = "is missing beside Python, as in containers; the batch script asks for new starts"
    return Finding("ok", "scontrol in a job", meaning)


def _saving(node: Node, cluster: SlurmCluster, grace: float | None) -> Finding:
    """A checkpoint, twice, as a step before it and a busy disk take time too, against notice."""
    takes = node.checkpoint_seconds
    notices = {"warning_seconds": float(cluster.warning_seconds), "GraceTime": grace}
    short = [f"{name} {time:.0f} s" for name, time in notices.items() if time and time < 2 * takes]
    what, took = "saving", f"a ViT-S checkpoint takes {takes:.1f} s"
    if short:
        meaning = f"{took}: {' and '.join(short)} may be too short for it"
        fix = "raise warning_seconds, or let jobs save often: reporting.checkpoint_seconds"
        return Finding("warn", what, meaning, fix)
    return Finding("ok", what, f"{took} in the results folder")


def _data(node: Node, cluster: SlurmCluster, results: Path) -> Iterator[Finding]:
    if not cluster.data:
        return
    keep_seen(cluster, results, node.data)
    faults = {name: node.data.get(folder, "") for name, folder in cluster.data.items()}
    for name, fault in faults.items():
        if fault:
            fix = f"data: {{{name}: FOLDER}} of the profile, or node_setup: lines that bring it"
            yield Finding("fail", f"data set {name}", f"on {node.host}: {fault}", fix)
    found = [name for name, fault in faults.items() if not fault]
    if found:
        yield Finding("ok", "data sets", f"on {node.host}: {', '.join(found)}")
