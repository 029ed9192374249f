"""Why a run ended badly: the dozen kinds, and what failure.json says."""

from __future__ import annotations

import errno
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.hardware import hostname


def describe(error: Exception, step: int) -> dict[str, Any]:
    """What failure.json says of `error`: kind, the decisive line, traceback, host, step."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    kind = _kind(error)
    if isinstance(error, UserError):
        # A data worker process hands its error over with its traceback in front.
        line = lines[-1].removeprefix(f"{UserError.__module__}.UserError: ")
    elif isinstance(error, OSError) and kind == "disk_full":
        line = f"{error.strerror}: free some space and submit again, the run then resumes"
    else:
        line = f"{type(error).__name__}: {lines[0]}"
    return {
        "kind": kind,
        "line": line,
        "traceback": "".join(traceback.format_exception(error)),
        "host": hostname(),
        "step": getattr(error, "step", step),
    }


def _kind(error: Exception) -> str:
    # By name: importing torch may be what failed.
    names = {base.__name__ for base in type(error).__mro__}
    if "Diverged" in names:
        return "nan"
    if names & {"OutOfMemoryError", "MemoryError"} or "can't allocate memory" in str(error):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "disk_full"
    if isinstance(error, UserError | OSError):
        frames = traceback.walk_tb(error.__traceback__)
        if any(f.f_globals.get("__name__", "").startswith("repro.data") for f, _ in frames):
            return "data"
    return "user" if isinstance(error, UserError) else "code"


@dataclass(frozen=True)
class Kind:
    """`short` is what `repro retry --only` takes."""

    short: str
    title: str
    remedy: str


KINDS = {
    "out_of_memory": Kind(
        "oom",
        "out of memory",
        "repro retry --only oom --mem +50%; on a GPU more parts of a batch: resources.accumulate=2",
    ),
    "cuda": Kind(
        "cuda",
        "CUDA, driver or communication error",
        "often one bad node: look at the hosts, exclude it (extra: {exclude: NODE}), retry",
    ),
    "nan": Kind(
        "nan",
        "the loss became NaN",
        "a finding, not an accident: look at repro logs; a retry repeats it bit for bit",
    ),
    "import": Kind(
        "import",
        "an import failed",
        "mend the environment on the nodes (setup: lines of the profile), then repro doctor",
    ),
    "data": Kind(
        "data", "data missing or unreadable", "mend the path or the file, then repro retry"
    ),
    "timeout": Kind(
        "timeout", "time limit", "repro retry --only timeout --time +50%; it goes on where it was"
    ),
    "preempted": Kind(
        "preempted", "preempted too often", "another partition or QOS, or requeues: in the profile"
    ),
    "node": Kind("node", "the node failed", "repro retry --only node; it goes on where it was"),
    "disk_full": Kind("disk", "no space left", "free space or quota, then repro retry --only disk"),
    "cancelled": Kind("cancelled", "cancelled", "repro retry cancelled"),
    "user": Kind("user", "a setting is wrong", "mend what the line names, then submit again"),
    "code": Kind("code", "an exception in the code", "repro logs shows its traceback"),
    "killed": Kind(
        "killed",
        "killed from outside",
        "often memory: repro retry --only killed --mem +50%; the host's system log tells more",
    ),
    "unknown": Kind("unknown", "no trace of why", "repro logs; repro retry --only unknown"),
}


LOG_TAIL = 20  # lines of a dead worker's log that its failure keeps


def describe_death(log: Path, start: int, code: int) -> dict[str, Any]:
    """What failure.json says of a worker that could not write its own; the step is missing.

    Args:
        start: where in its log this worker began.
    """
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"gone, exit code {code}"
    hint = " (often for want of memory)" if code == -signal.SIGKILL else ""
    with log.open("rb") as file:
        file.seek(start)
        said = file.read().decode(errors="replace").splitlines()[-LOG_TAIL:]
    return {
        "kind": "killed",
        "line": f"worker {how}{hint}; last line of its log: {said[-1] if said else '(none)'}",
        "traceback": "\n".join(said),
        "host": hostname(),
    }
