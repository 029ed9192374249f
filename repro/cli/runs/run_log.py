"""`repro logs`: the end of runs' logs by attempt, and following them as they grow."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from repro.errors import UserError
from repro.files import tail
from repro.harness.runs.store import RunFolder
from repro.harness.status.find import cause_text
from repro.harness.status.overview import View, overview
from repro.harness.worker.run import ATTEMPT

POLL_SECONDS = 0.5
RANK_LOGS = "log.rank[0-9]*.txt"
LOOK_SECONDS = 5.0


def print_log(folder: RunFolder, view: View, lines: int, attempt: int | None = None) -> None:
    """The end of a run's log under its name; what ended it comes first.

    Raises:
        UserError: there was no such attempt.
    """
    print(f"== {folder.path.name} ({view.state})")
    if view.cause:
        print(f"{view.state}: {cause_text(view.cause)}")
    print("\n".join(_lines(folder, view, lines, attempt)))
    if attempt is None:
        _print_ranks(folder, lines)
    if view.evaluation_cause:
        print(f"not evaluated: {cause_text(view.evaluation_cause)}")
        log = view.task.log() if view.task else None
        for line in tail(log)[-lines:] if log else []:
            print(f"job: {line}")


def follow(folders: Sequence[RunFolder], results: Path, lines: int) -> None:
    """Print logs as they grow, until all of these runs have ended; several carry their names."""
    offsets: dict[Path, int] = {}
    prefixes = {folder.path: f"{folder.slug}: " if len(folders) > 1 else "" for folder in folders}
    views = overview(folders, results).views
    looked = time.monotonic()
    for folder in folders:
        print_log(folder, views[folder.id], lines)
        offsets[folder.path] = _size(folder)
    while True:
        for folder in folders:
            _print_new(folder, offsets, prefixes[folder.path])
        sys.stdout.flush()
        if time.monotonic() - looked > LOOK_SECONDS:
            views, looked = overview(folders, results).views, time.monotonic()
        if not any(view.state == "running" or view.sent for view in views.values()):
            break
        time.sleep(POLL_SECONDS)
    for folder in folders:
        _print_new(folder, offsets, prefixes[folder.path])
        print(f"== {folder.path.name} ({views[folder.id].state})")


def _lines(folder: RunFolder, view: View, lines: int, attempt: int | None) -> list[str]:
    path = folder.path / "log.txt"
    if attempt is None:
        if end := tail(path)[-lines:]:
            return end
        log = view.task.log(view.queued.job if view.queued else None) if view.task else None
        job = tail(log)[-lines:] if log else []
        return ["(no log: it has not started)", *(f"job: {line}" for line in job)]
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        text = ""
    attempts = text.split(f"{ATTEMPT} ")[1:]
    numbered = {int(part.partition(",")[0]): part for part in attempts}
    if attempt not in numbered:
        known = ", ".join(map(str, numbered)) or "none"
        raise UserError(f"--attempt {attempt}: {path} holds the attempts {known}")
    return f"{ATTEMPT} {numbered[attempt]}".splitlines()


def _print_ranks(folder: RunFolder, lines: int) -> None:
    """The end of what every other rank printed since it last started, where a rank has its own."""
    logs = {int(path.stem.removeprefix("log.rank")): path for path in folder.path.glob(RANK_LOGS)}
    for rank, path in sorted(logs.items()):
        printed = tail(path)
        starts = [number for number, line in enumerate(printed) if line.startswith(ATTEMPT)]
        for line in printed[starts[-1] if starts else 0 :][-lines:]:
            print(f"rank {rank}: {line}")


def _size(folder: RunFolder) -> int:
    path = folder.path / "log.txt"
    return path.stat().st_size if path.exists() else 0


def _print_new(folder: RunFolder, offsets: dict[Path, int], prefix: str) -> None:
    """Print the whole lines after what has been printed of this log, and remember how far."""
    size = _size(folder)
    if size <= offsets[folder.path]:
        return
    with (folder.path / "log.txt").open("rb") as file:
        file.seek(offsets[folder.path])
        text = file.read(size - offsets[folder.path])
    whole = text[: text.rfind(b"\n") + 1]
    offsets[folder.path] += len(whole)
    for line in whole.decode(errors="replace").splitlines():
        print(f"{prefix}{line}")
