"""The processes of a run with `resources.ranks` > 1.

The worker that a backend starts is rank 0: it holds the lock, writes the run folder and answers
for the run. On one machine it starts the other ranks itself; torchrun, or a batch system with one
task a GPU, has started them already and says so in WORLD_SIZE and RANK.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS_TO_END = 30


def is_follower() -> bool:
    """Whether another process writes this run's folder."""
    return int(os.environ.get("RANK", "0")) > 0


@contextmanager
def followers(folder: Path, ranks: int) -> Iterator[None]:
    """Ranks 1 to `ranks` - 1 on this machine while the caller, rank 0, trains.

    They leave with rank 0: all ranks agree on every stop. Those that do not are ended.
    """
    if ranks == 1 or "WORLD_SIZE" in os.environ:
        yield
        return
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(ranks),
    }
    os.environ |= common | {"RANK": "0", "LOCAL_RANK": "0"}
    command = [sys.executable, "-u", "-m", "repro.harness.worker", str(folder)]
    processes = [
        subprocess.Popen(command, env=os.environ | {"RANK": str(r), "LOCAL_RANK": str(r)})
        for r in range(1, ranks)
    ]
    try:
        yield
        for process in processes:
            process.wait(SECONDS_TO_END)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for name in (*common, "RANK", "LOCAL_RANK"):
            os.environ.pop(name)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
