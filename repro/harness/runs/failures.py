"""Why a run ended badly: failure.json, which is made, written and read here, and nowhere else."""

from __future__ import annotations

import errno
import re
import signal
import traceback
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec

from repro.errors import UserError
from repro.files import read_object, with_digest, write_json
from repro.hardware import hostname

# As torch's allocators, the driver, cuBLAS and cuDNN say it.
NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC(ATION)?_FAILED", re.IGNORECASE)
# As torch says it of a process that decodes images; often the kernel, for want of memory.
LOADER_KILLED = re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)")
LOG_TAIL = 20  # lines of a dead worker's log that its failure keeps
# What a rank says whose neighbour has gone: of gloo, NCCL, and torch's own store.
ECHO = re.compile(
    "Connection (closed|reset|refused)|Broken pipe|gloo|NCCL|nccl|Dist(Backend|Network|Store)Error|"
    "TCPStore|Timed out waiting"
)
RANK_FILE = re.compile(r"rank(\d+)\.failure\.json")


class GpuMemoryError(RuntimeError):
    """A GPU has no room; one line that says what was asked for, who holds what, what would fit.

    Attributes:
        fits: overrides with which a step was seen to fit.
    """

    def __init__(self, line: str, fits: Sequence[str] = ()) -> None:
        super().__init__(line)
        self.fits = list(fits)


class FailureKind(StrEnum):
    """What went wrong.

    Attributes:
        short: what `repro retry --only` takes.
        meaning: for people.
        remedy: what they may do about it.
    """

    short: str
    meaning: str
    remedy: str

    out_of_memory = (
        "out_of_memory",
        "oom",
        "out of memory",
        (
            "on SLURM repro retry --only oom --mem +50%, here with fewer --workers; on a GPU "
            "more parts of a batch: resources.accumulate=2"
        ),
    )
    cuda = (
        "cuda",
        "cuda",
        "CUDA, driver or communication error",
        "often one bad node: look at the hosts, exclude it (extra: {exclude: NODE}), retry",
    )
    nan = (
        "nan",
        "nan",
        "the loss became NaN",
        "a finding, not an accident: look at repro logs; a retry repeats it bit for bit",
    )
    import_ = (
        "import",
        "import",
        "an import failed",
        "mend the environment on the nodes (setup: lines of the profile), then repro doctor",
    )
    data = (
        "data",
        "data",
        "data missing or unreadable",
        "mend the path or the file, then repro retry",
    )
    damaged = (
        "damaged",
        "damaged",
        "a file of the run is damaged",
        "put back what was there, or remove the run's folder and submit again",
    )
    timeout = (
        "timeout",
        "timeout",
        "time limit",
        "repro retry --only timeout --time +50%; it goes on where it was",
    )
    preempted = (
        "preempted",
        "preempted",
        "preempted too often",
        "another partition or QOS, or requeues: in the profile",
    )
    node = (
        "node",
        "node",
        "the node failed",
        "repro retry --only node; it goes on where it was",
    )
    disk_full = (
        "disk_full",
        "disk",
        "no space left",
        "free space or quota, then repro retry --only disk",
    )
    cancelled = ("cancelled", "cancelled", "cancelled", "repro retry cancelled")
    user = ("user", "user", "a setting is wrong", "mend what the line names, then submit again")
    code = ("code", "code", "an exception in the code", "repro logs shows its traceback")
    killed = (
        "killed",
        "killed",
        "killed from outside",
        (
            "often memory: on SLURM repro retry --only killed --mem +50%, here with fewer "
            "--workers; the host's system log tells more"
        ),
    )
    unknown = (
        "unknown",
        "unknown",
        "no trace of why",
        "repro logs; repro retry --only unknown",
    )

    def __new__(cls, name: str, short: str, meaning: str, remedy: str) -> Self:
        kind = str.__new__(cls, name)
        kind._value_ = name
        kind.short, kind.meaning, kind.remedy = short, meaning, remedy
        return kind


class Failure(msgspec.Struct, frozen=True):
    """The content of a failure.json; what a file leaves out has its default."""

    kind: FailureKind = FailureKind.unknown
    line: str = ""  # the decisive one
    traceback: str = ""  # or the end of the log
    host: str = ""
    step: int = 0
    fits: list[str] = []  # out of memory: overrides with which a step did fit


def read_failure(path: Path) -> Failure | None:
    """None if there is no such file; a kind that this version does not know is `unknown`.

    Raises:
        UserError: the file is no failure.
    """
    content = read_object(path)
    if not content:
        return None
    try:
        known = content.get("kind") in tuple(FailureKind)
        return msgspec.convert(content if known else content | {"kind": "unknown"}, Failure)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: does not tell of a failure: {error}") from None


def told_failure(path: Path) -> Failure | None:
    """As `read_failure`; of a damaged file only that it is so, for it takes nothing from a run."""
    try:
        return read_failure(path)
    except UserError as error:
        return Failure(line=str(error))


def write_failure(path: Path, failure: Failure) -> None:
    content = msgspec.to_builtins(failure)
    if not failure.fits:
        del content["fits"]
    write_json(path, with_digest(content))


def failure_of(error: Exception, step: int) -> Failure:
    """What an exception at `step` tells."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    kind = _kind(error)
    if isinstance(error, UserError):
        # A data worker process hands its error over with its traceback in front.
        line = lines[-1].removeprefix(f"{UserError.__module__}.UserError: ")
    elif isinstance(error, OSError) and kind is FailureKind.disk_full:
        line = f"{error.strerror}: free some space and submit again, the run then resumes"
    elif isinstance(error, GpuMemoryError):
        line = lines[0]
    else:
        line = f"{type(error).__name__}: {lines[0]}"
    text = "".join(traceback.format_exception(error))
    fits = error.fits if isinstance(error, GpuMemoryError) else []
    return Failure(kind, line, text, hostname(), getattr(error, "step", step), fits)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, of the machine or of a GPU."""
    # By name: importing torch may be what failed.
    names = {base.__name__ for base in type(error).__mro__}
    if names & {"OutOfMemoryError", "GpuMemoryError", "MemoryError"}:
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None


def killed(code: int) -> Failure:
    """Of a process that ended with the exit code `code`, and left no log of its own."""
    return Failure(FailureKind.killed, f"worker {_end(code)}", host=hostname())


def note_of_rank(folder: Path, rank: int, failure: Failure) -> None:
    """Leave why a rank of the run in `folder` failed, unless it has said so itself."""
    path = folder / "rendezvous" / f"rank{rank}.failure.json"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        write_failure(path, failure)


def forget_ranks(folder: Path) -> None:
    """Remove the notes of an earlier attempt's ranks."""
    for path in _notes(folder):
        path.unlink(missing_ok=True)


def failure_of_a_rank(folder: Path) -> Failure | None:
    """Of the rank that failed first, rank 0 aside, as its line says; None if none did.

    Ranks that only noticed a neighbour's end come last, whatever the order in which they wrote.
    """
    told: list[tuple[bool, float, Failure]] = []
    for path in _notes(folder):
        failure = told_failure(path)
        if failure is not None and (named := RANK_FILE.fullmatch(path.name)):
            named_failure = msgspec.structs.replace(
                failure, line=f"rank {named[1]}: {failure.line}"
            )
            told.append((is_echo(failure), path.stat().st_mtime, named_failure))
    return min(told, key=lambda note: note[:2])[2] if told else None


def is_echo(failure: Failure) -> bool:
    """Whether a failure only tells that another rank has gone."""
    own = failure.kind in (FailureKind.code, FailureKind.killed)
    return own and ECHO.search(failure.line) is not None


def _notes(folder: Path) -> list[Path]:
    return sorted((folder / "rendezvous").glob("rank*.failure.json"))


def failure_of_the_dead(log: Path, start: int, code: int, step: int) -> Failure:
    """Of a worker that could not write its own: it was killed, or Python ended before.

    Args:
        start: where in its log this worker began.
        code: its exit code, negative for a signal.
    """
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()[-LOG_TAIL:]
    last = lines[-1] if lines else "(none)"
    line = f"worker {_end(code)}; last line of its log: {last}"
    ended_itself = code > 0 and any(one.startswith("Traceback ") for one in lines)
    kind = FailureKind.code if ended_itself else FailureKind.killed
    return Failure(kind, line, "\n".join(lines), hostname(), step)


def _end(code: int) -> str:
    """How a process ended, in words."""
    hint = " (often for want of memory)" if code == -signal.SIGKILL else ""
    end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"gone, exit code {code}"
    return end + hint


def _kind(error: Exception) -> FailureKind:
    if "Diverged" in {base.__name__ for base in type(error).__mro__}:  # torch is not imported here
        return FailureKind.nan
    if is_out_of_memory(error):
        return FailureKind.out_of_memory
    if isinstance(error, RuntimeError) and LOADER_KILLED.search(str(error)):
        return FailureKind.killed
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FailureKind.disk_full
    if isinstance(error, UserError | OSError):
        frames = traceback.walk_tb(error.__traceback__)
        modules = [frame.f_globals.get("__name__", "") for frame, _ in frames]
        if any(name.startswith("repro.data") for name in modules):
            return FailureKind.data
        if modules[-1:] == ["repro.harness.runs.checkpoint"] and isinstance(error, UserError):
            return FailureKind.data
    return FailureKind.user if isinstance(error, UserError) else FailureKind.code
