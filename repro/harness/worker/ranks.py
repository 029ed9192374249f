"""The processes of a run with `resources.ranks` > 1.

The worker that a backend starts is rank 0: it holds the lock, writes the run folder and answers
for the run. On one machine it starts the other ranks itself; a batch system with one task a GPU has
started them already, and they wait for the place to meet; torchrun has told them the place.

The place is a port that rank 0 opens before anybody hears of it, so that nobody can take it. A rank
that fails leaves a note (`runs/failures.py`). Rank 0 tells of it, also while it is stuck in a
collective with the rank that failed, which no exception ends before torch's patience does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from repro.background import meanwhile
from repro.files import write_json
from repro.harness.runs import variables
from repro.harness.runs.failures import (
    Failure,
    failure_of_a_rank,
    forget_ranks,
    killed,
    note_of_rank,
)

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

SECONDS_TO_END = 30
STUCK_SECONDS = 15.0  # from a rank's note until rank 0 no longer waits for an error of its own
LOOK_SECONDS = 0.5
LAST_LOOK_SECONDS = 1.0

Tell = Callable[[Failure], None]


def is_follower() -> bool:
    """Whether another process writes this run's folder."""
    return own_rank() > 0


def own_rank() -> int:
    return int(os.environ.get("RANK", "0"))


def meeting_file(folder: Path) -> Path:
    """Where the leader of this start of a SLURM job says where its ranks meet."""
    start = f"{os.environ['SLURM_JOB_ID']}.{variables.SLURM_RESTARTS.read()}"
    return folder / "rendezvous" / f"{start}.json"


@contextmanager
def followers(folder: Path, ranks: int, tell: Tell) -> Iterator[socket.socket | None]:
    """The other ranks while the caller, rank 0, trains; yields the port it opened for them.

    They leave with rank 0: all ranks agree on every stop. Those that do not are ended.

    Args:
        tell: ends this process with a failure of another rank, from a thread of its own.
    """
    if ranks == 1:
        yield None
        return
    if variables.MEETING.read():  # the other tasks of this SLURM job wait for it
        listening = _listen()
        write_json(meeting_file(folder), _meeting(os.environ["MASTER_ADDR"], listening))
        with _watched(folder, [], tell):
            yield listening
        return
    if "WORLD_SIZE" in os.environ:  # torchrun's
        with _watched(folder, [], tell):
            yield None
        return
    forget_ranks(folder)
    listening = socket.create_server(("127.0.0.1", 0))
    common = _meeting("127.0.0.1", listening) | {"WORLD_SIZE": str(ranks)}
    leader = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= leader | {"WORLD_SIZE": str(ranks)}
    command = [sys.executable, "-u", "-m", "repro.harness.worker", str(folder)]
    processes = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(r), "LOCAL_RANK": str(r)})
        for r in range(1, ranks)
    ]
    try:
        with _watched(folder, processes, tell):
            yield listening
        for process in processes:
            process.wait(SECONDS_TO_END)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for name in (*leader, "WORLD_SIZE"):
            os.environ.pop(name)


def store(listening: socket.socket | None) -> Store:
    """Where this rank meets the others."""
    from repro.distributed import open_store, torchrun_store

    if listening is not None:
        host, port = os.environ["MASTER_ADDR"], listening.getsockname()[1]
        return open_store(host, port, listening.detach())
    if variables.MEETING.read():
        return open_store(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    return torchrun_store()


def _listen() -> socket.socket:
    """A port that other nodes reach."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _meeting(host: str, listening: socket.socket) -> dict[str, str]:
    port = str(listening.getsockname()[1])
    return {"MASTER_ADDR": host, "MASTER_PORT": port} | variables.MEETING.holding(1)


@contextmanager
def _watched(folder: Path, mine: Sequence[subprocess.Popen[bytes]], tell: Tell) -> Iterator[None]:
    """Notes are looked for meanwhile; those of `mine` that are killed cannot leave one."""

    def note() -> bool:
        """Whether one of mine has ended."""
        codes = [process.poll() for process in mine]
        for rank, code in enumerate(codes, 1):
            if code is not None and code < 0:
                note_of_rank(folder, rank, killed(code))
        return any(code is not None for code in codes)

    def look(over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            note()
            if failure_of_a_rank(folder) is None:
                continue
            if not over.wait(STUCK_SECONDS) and (failure := failure_of_a_rank(folder)):
                tell(failure)
            return

    with meanwhile(look):
        try:
            yield
        except Exception:
            # Perhaps of a connection to a rank that is just ending.
            deadline = time.monotonic() + LAST_LOOK_SECONDS
            while mine and not note() and time.monotonic() < deadline:
                time.sleep(0.05)
            raise
