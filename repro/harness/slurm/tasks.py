"""The tasks of a job whose run shares its batch between ranks: one job process a rank.

Task 0 leads: its worker answers for the run. The others start their rank's worker, watch it, and
end after the leader, since srun kills all tasks as soon as one fails: the leader is to tell of the
failure first.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from repro.files import read_json
from repro.harness.local.pool import start_worker
from repro.harness.runs import variables
from repro.harness.runs.failures import failure_of_the_dead, forget_ranks, note_of_rank
from repro.harness.runs.store import RunFolder
from repro.harness.worker.ranks import STUCK_SECONDS, meeting_file
from repro.harness.worker.run import DONE, STOPPED

RENDEZVOUS_SECONDS = 600.0
KILL_SECONDS = 30.0
TOLD_SECONDS = STUCK_SECONDS + 15.0  # in which the leader has told of a rank that failed
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@contextmanager
def leading(folder: RunFolder, ranks: int) -> Iterator[None]:
    """While task 0 trains: its worker writes where the ranks of this attempt meet, in a file that
    is there as long as the leader is.
    """
    if ranks == 1:
        yield
        return
    forget_ranks(folder.path)
    path = meeting_file(folder.path)
    path.parent.mkdir(exist_ok=True)
    os.environ.update(WORLD_SIZE=str(ranks), RANK="0", LOCAL_RANK=_local_rank())
    os.environ.update(MASTER_ADDR=_address())
    os.environ.update(variables.MEETING.holding(1))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def follow(folder: RunFolder, rank: int, asked: list[signal.Signals]) -> int:
    """Train along as rank `rank`; the exit code: other than 0 only if this rank's worker failed.

    Args:
        asked: the signals that this process has received.
    """
    path = meeting_file(folder.path)
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    while (meeting := read_json(path)) is None:
        if asked or folder.result() is not None:
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

    def pass_on(number: int, _: object) -> None:
        asked.append(signal.Signals(number))
        process.send_signal(signal.SIGTERM)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    if asked:
        process.send_signal(signal.SIGTERM)
    code = _watch(process, path)
    if code in (DONE, STOPPED) or (code < 0 and asked):
        return 0
    if code < 0:
        note_of_rank(folder.path, rank, failure_of_the_dead(log, start, code, folder.step))
    deadline = time.monotonic() + TOLD_SECONDS
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    return 1


def _watch(process: subprocess.Popen[bytes], meeting: Path) -> int:
    """The exit code of a rank's worker, which is ended some time after the leader has gone."""
    while process.poll() is None:
        if not meeting.exists():
            with suppress(subprocess.TimeoutExpired):
                return process.wait(KILL_SECONDS)
            process.kill()
            process.wait()
            return DONE
        time.sleep(0.2)
    return process.returncode


def _address() -> str:
    """This node's, as the batch script read it from the list of nodes; where nodes have no address
    by that name, what this one calls itself.
    """
    if name := os.environ.get("MASTER_ADDR"):
        with suppress(OSError):
            socket.gethostbyname(name)
            return name
    return socket.gethostname()


def _local_rank() -> str:
    return str(variables.SLURM_LOCAL_TASK.read())
