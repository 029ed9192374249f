"""Where an attempt runs, and that it lives: for people, and for whoever would start another one."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from repro.background import meanwhile
from repro.harness.runs.store import RunFolder


def own_place() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "job": slurm_job()}


def slurm_job() -> str | None:
    """The job this process belongs to, as people and scancel name it: "12" or "12_3"."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def whereabouts(me: dict[str, Any]) -> list[str]:
    node = os.environ.get("SLURMD_NODENAME")
    return [
        me["host"],
        *([f"node {node}"] if node else []),
        *([f"job {me['job']}"] if me["job"] else []),
    ]


@contextmanager
def heartbeat(folder: RunFolder, seconds: float) -> Iterator[None]:
    """Beat from a thread while the process lives.

    Loading data and evaluating yield no events for minutes, so the loop could not beat; a hang is
    recognised by a step number that stands still, not by the heart.
    """

    def beat(over: threading.Event) -> None:
        while not over.is_set():
            with suppress(OSError):  # a full disk must not end the thread, and shows elsewhere
                folder.beat()
            over.wait(seconds)

    with meanwhile(beat):
        yield
