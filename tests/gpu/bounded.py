"""A command that ends in time and leaves no process behind, whatever it started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
GRACE = (
    14.0  # seconds between being asked to stop and being killed; pytest's workers take 10 of them
)
LAST_ROUNDS = 50  # looks at what is still alive after being killed, a tenth of a second apart
LOG_BYTES = 2**20  # kept of the beginning and of the end of a command's output


@dataclass(frozen=True)
class Ended:
    exit_code: int
    timed_out: bool
    seconds: float
    output: str


def adopt_orphans() -> None:
    """Whatever loses its parent becomes our child, so that it can be found; Linux only."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(
    command: list[str],
    variables: dict[str, str],
    log: Path,
    limit: float,
    stop: signal.Signals = signal.SIGTERM,
) -> Ended:
    """Run it with its output at the end of `log`; after `limit` seconds nothing of it is left.

    `stop` is sent to the command alone, which knows best how to end what it has started.
    """
    begun = time.monotonic()
    others = children()
    grace = min(GRACE, limit / 4)
    timed_out = False
    with log.open("ab") as file:
        beginning = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | variables,
            start_new_session=True,
        )
        try:
            process.wait(limit - grace)
        except subprocess.TimeoutExpired:
            timed_out = True
            process.send_signal(stop)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        finally:
            kill_all_but(others, process)
            process.wait()
    output = shortened(log, beginning)
    return Ended(process.returncode, timed_out, time.monotonic() - begun, output)


def shortened(log: Path, beginning: int) -> str:
    """What stands in `log` from `beginning` on; its middle is left out where it is very long."""
    with log.open("r+b") as file:
        file.seek(beginning)
        content = file.read()
        if len(content) > 2 * LOG_BYTES:
            content = content[:LOG_BYTES] + b"\n[...]\n" + content[-LOG_BYTES:]
            file.seek(beginning)
            file.write(content)
            file.truncate()
    return content.decode(errors="replace")


def kill_all_but(others: set[int], process: subprocess.Popen[bytes]) -> None:
    """Kill all that descends from this process, but not from `others`; `process` among them."""
    for _ in range(LAST_ROUNDS):
        process.poll()
        alive = descendants(others, process.pid)
        if not alive:
            return
        for pid in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def children() -> set[int]:
    return {pid for pid, (parent, _) in processes().items() if parent == os.getpid()}


def descendants(others: set[int], waited_for: int) -> list[int]:
    """Those still alive. Dead orphans are taken off the system's list, not the one waited for."""
    parents = processes()
    found = [os.getpid()]
    for ancestor in found:
        found += [p for p, (of, _) in parents.items() if of == ancestor and p not in others]
    dead = {pid for pid in found if parents[pid][1] == "Z"}
    for pid in dead - {waited_for}:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return [pid for pid in found[1:] if pid not in dead]


def processes() -> dict[int, tuple[int, str]]:
    """Parent and state of every process, by its number (proc_pid_stat(5))."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            found[int(path.parent.name)] = int(parent), state
    return found
