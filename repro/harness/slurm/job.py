"""What a SLURM job does with the one path it receives: a run folder, or a list of them (a pack).

The job is a local pool inside its allocation: it starts a worker for every run, records how workers
died, and outlives them. Only a run that shares its batch between tasks (`resources.ranks`) has one
such job process a task; task 0 leads, the others start their rank's worker and watch it.

SLURM's warning before preemption or a time limit (USR2) is passed on to the workers, which agree on
a step, save and stop; then the job asks SLURM to start it again. On SIGTERM alone SLURM is ending
the job by itself (scancel, no warning configured): the workers save, and nothing is asked for.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from msgspec import structs
from rich.console import Console

from repro.files import read_json, write_json
from repro.hardware import hostname, visible_gpus
from repro.harness.evaluation import stage as evaluation
from repro.harness.local.display import Display
from repro.harness.local.pool import Outcome, Pool, make_slots, start_worker
from repro.harness.runs import variables
from repro.harness.runs.failures import (
    Failure,
    FailureKind,
    failure_of_the_dead,
    read_failure,
    write_failure,
)
from repro.harness.runs.store import RunFolder
from repro.harness.slurm import client as slurm
from repro.harness.worker.ranks import free_port

RENDEZVOUS_SECONDS = 600.0
KILL_SECONDS = 30.0
REQUEUE_SECONDS = 300.0  # SLURM ends a job that it starts again
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
NEAR_THE_END = 60.0  # seconds beside the warning time: then it was the time limit, no preemption


def train(path: str) -> None:
    """Train the run of the folder `path`, or the runs of the list `path`; see the module.

    Ends the process with an exit code other than 0 if none of its runs got done.
    """
    os.environ.update(variables.TRAIN_ONLY.holding(1))  # evaluations are jobs of their own
    # Until the pool or the watch over a rank listens, a warning must not end the job unseen.
    early: list[signal.Signals] = []
    for number in SIGNALS:
        signal.signal(number, lambda n, _: early.append(signal.Signals(n)))
    folders = run_folders(path)
    ranks, rank = variables.SLURM_TASKS.read(), variables.SLURM_TASK.read()
    if ranks > 1 and rank > 0:
        sys.exit(_follow(folders[0], rank, early))
    with _rendezvous(folders[0], ranks):
        done = _lead(folders, ranks, early)
    if not done:
        sys.exit(1)


def evaluate(path: str) -> None:
    """Evaluate the finished runs of `path`; ends with exit code 1 if a protocol failed."""
    failed = False
    for folder in run_folders(path):
        if folder.result() is None:
            print(f"{folder.path.name}: not trained, hence not evaluated")
            continue
        # Should this job be killed, an earlier one's failure must not pass for its own.
        for earlier in (folder.path / "evaluations").glob("*.failure.json"):
            earlier.unlink()
        failed |= not evaluation.evaluate(folder)
    if failed:
        sys.exit(1)


def run_folders(path: str) -> list[RunFolder]:
    """The folders a job's path stands for."""
    if Path(path).is_dir():
        return [RunFolder(Path(path))]
    content = read_json(Path(path))
    assert content is not None, f"{path}: neither a run folder nor a list of them"
    return [RunFolder(Path(folder)) for folder in content["runs"]]


def _lead(folders: Sequence[RunFolder], ranks: int, early: list[signal.Signals]) -> bool:
    """Whether at least one run is done."""
    cores = variables.SLURM_CPUS.read()
    packed = min(variables.PACKED.read(), len(folders))
    # A worker divides its threads by its ranks, which here have cores of their own.
    slots = make_slots(len(folders), visible_gpus(), packed, max(1, cores // packed) * ranks)
    outcome = Outcome()
    with Display(len(folders), 0, packed, Console(width=200)) as display:
        pool = Pool(deque(folders), slots, display, outcome, patient=True)
        received = list(early)

        def listen(number: int, frame: FrameType | None) -> None:
            received.append(signal.Signals(number))
            pool.on_signal(number, frame)

        for number in SIGNALS:
            signal.signal(number, listen)
        pool.asked = min(1, len(received))
        pool.work()
    for folder in folders:
        _blame_a_rank(folder, outcome)
    if outcome.interrupted:
        _start_again(outcome.interrupted, received)
    return bool(outcome.done)


def _start_again(folders: Sequence[RunFolder], received: Sequence[signal.Signals]) -> None:
    """Ask SLURM for another start of this job, unless it had enough of them; then say why not."""
    if received and signal.SIGUSR2 not in received:
        print(f"{received[0].name}: SLURM ends this job; nothing is asked for")
        return
    job, starts = os.environ["SLURM_JOB_ID"], variables.SLURM_RESTARTS.read()
    most = variables.REQUEUES.read()
    left = slurm.seconds_left(job)
    at_limit = left is not None and left <= NEAR_THE_END + variables.WARNING.read()
    why = "its time limit is near" if at_limit else "preempted"
    if starts < most:
        for folder in folders:
            folder.event("requeued", job=job, start=starts + 1, reason=why)
        print(f"{why}: asking for start {starts + 2} of at most {most + 1}", flush=True)
        if shutil.which("scontrol") is None:
            sys.exit(variables.ASKS_FOR_A_START)  # its batch script asks; see script.py
        if slurm.requeue(job):
            time.sleep(REQUEUE_SECONDS)
        sys.exit("SLURM did not take this job back; repro retry interrupted")
    kind = FailureKind.timeout if at_limit else FailureKind.preempted
    line = f"{why} after {starts + 1} start(s), and no more are allowed; its checkpoint is saved"
    for folder in folders:
        folder.fail(Failure(kind, line, host=hostname(), step=folder.step))
        folder.event("failed", kind=kind, line=line)
    print(line)


@contextmanager
def _rendezvous(folder: RunFolder, ranks: int) -> Iterator[None]:
    """Where the ranks of this attempt meet: a file that is there as long as the leader is."""
    if ranks == 1:
        yield
        return
    meeting = {"MASTER_ADDR": _address(), "MASTER_PORT": str(free_port())}
    path = _meeting_file(folder)
    path.parent.mkdir(exist_ok=True)
    write_json(path, meeting)
    os.environ.update(meeting, WORLD_SIZE=str(ranks), RANK="0", LOCAL_RANK=_local_rank())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _follow(folder: RunFolder, rank: int, early: list[signal.Signals]) -> int:
    """Train along as rank `rank`; the exit code: other than 0 only if this rank's worker died."""
    path = _meeting_file(folder)
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    while (meeting := read_json(path)) is None:
        if early or folder.result() is not None:
            return 0
        if time.monotonic() > deadline:
            print(f"rank {rank} waited {RENDEZVOUS_SECONDS:.0f} s for rank 0 in vain")
            return 1
        time.sleep(0.2)
    mine = {"WORLD_SIZE": os.environ["SLURM_NTASKS"], "RANK": str(rank)}
    threads = variables.SLURM_CPUS.read() * variables.SLURM_TASKS.read()
    mine |= {"LOCAL_RANK": _local_rank()} | variables.THREADS.holding(threads)
    log = folder.path / f"log.rank{rank}.txt"
    process, start = start_worker(folder, os.environ | meeting | mine, log)
    for number in SIGNALS:
        signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM))
    if early:
        process.send_signal(signal.SIGTERM)
    code = _watch(process, path)
    if code < 0 and not early and path.exists():
        died = failure_of_the_dead(log, start, code, folder.step)
        died = structs.replace(died, line=f"rank {rank}: {died.line}")
        write_failure(_death_file(folder), died)
        return 1
    return 0


def _watch(process: subprocess.Popen[bytes], meeting: Path) -> int:
    """The exit code of a rank's worker, which is ended some time after the leader has gone."""
    while process.poll() is None:
        if not meeting.exists():
            with suppress(subprocess.TimeoutExpired):
                return process.wait(KILL_SECONDS)
            process.kill()
            process.wait()
            return 0
        time.sleep(0.2)
    return process.returncode


def _blame_a_rank(folder: RunFolder, outcome: Outcome) -> None:
    """A run that ended because another rank's worker died says so, not that a connection closed."""
    died = read_failure(_death_file(folder))
    if died is None or folder.result() is not None:
        return
    folder.fail(died)
    folder.event("failed", kind=died.kind, line=died.line)
    _death_file(folder).unlink()
    if folder in outcome.interrupted:
        outcome.interrupted.remove(folder)


def _address() -> str:
    """This node's, as the batch script read it from the list of nodes; where nodes have no address
    by that name, what this one calls itself.
    """
    if name := os.environ.get("MASTER_ADDR"):
        with suppress(OSError):
            socket.gethostbyname(name)
            return name
    return socket.gethostname()


def _meeting_file(folder: RunFolder) -> Path:
    attempt = f"{os.environ['SLURM_JOB_ID']}.{variables.SLURM_RESTARTS.read()}"
    return folder.path / "rendezvous" / f"{attempt}.json"


def _death_file(folder: RunFolder) -> Path:
    return _meeting_file(folder).with_suffix(".died.json")


def _local_rank() -> str:
    return str(variables.SLURM_LOCAL_TASK.read())
