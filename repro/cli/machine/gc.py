"""`repro gc`: what nobody needs any more: job pickles and logs of submissions, old code, features
of frozen networks, which can be made again, and files that killed processes had begun.

Nothing of a run is touched, nor of a submission that may still be needed: one that has a run which
is not done, or was done only hours ago, or a job that waits, runs or cannot be seen from here; of a
submission that cannot be read nobody knows, so all code stays. Nobody submits while something is
removed. What a link leads to is not ours, but for the features.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.exit_codes import FINE
from repro.cli.options import add_yes

if TYPE_CHECKING:
    from repro.harness.runs.store import RunFolder
    from repro.harness.slurm.submissions import Submission
    from repro.harness.slurm.visible import Shown

HELP = "remove what finished submissions left: job scripts, pickles, old code; kept features"
EXAMPLE = "repro gc --dry-run"
BEGUN = 86400.0  # seconds after which nobody goes on with a file that was begun
# Of `replace_text`, of a checkpoint, of run folders and snapshots that are being made.
UNFINISHED = ("runs/*/.*.json.[0-9]*", "runs/*/.*.yaml.[0-9]*", "runs/*/.*.jsonl.[0-9]*",
              "runs/*/evaluations/.*.json.[0-9]*", "runs/*/checkpoints/unfinished.pt",
              "submissions/*/.*.json.[0-9]*", "runs/.new-*", "code/.new-*")  # fmt: skip
SETTLED = 6 * 3600.0  # seconds after which nobody looks for the logs of a run's job


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show it, remove nothing")
    add_yes(parser, "do not ask")


def run(arguments: argparse.Namespace) -> int:
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import confirm, count

    found = look(results_dir())
    for item in found.items:
        print(f"{item.bytes / 1e6:10.1f} MB  {item.path}  {item.why}")
    for why, number in Counter(found.kept.values()).items():
        print(f"kept: {count(number, 'submission')}: {why}")
    total = sum(item.bytes for item in found.items) / 1e6
    print(f"{count(len(found.items), 'item')}, {total:.1f} MB")
    if found.items and not arguments.dry_run and confirm("Remove them?", arguments.yes):
        sweep(found.items, results_dir())
    return FINE


@dataclass(frozen=True)
class Rubbish:
    path: Path
    bytes: int
    why: str


@dataclass(frozen=True)
class Found:
    """What could go, and by submission's id why others whose runs are done have to stay."""

    items: list[Rubbish]
    kept: dict[str, str]


def look(results: Path) -> Found:
    from repro.harness.runs.store import find_runs
    from repro.harness.slurm import visible
    from repro.harness.slurm.submissions import damaged_submissions, submissions
    from repro.locks import is_flocked

    done = {f.id: f for f in find_runs(results / "runs") if f.is_done()}
    sent = submissions(results)
    finished = [one for one in sent if one.runs <= done.keys()]
    shown = visible.look([task for one in sent for task in one.tasks()])
    kept = _needed(finished, done, shown)
    items = []
    for submission in finished:
        if submission.id not in kept:
            why = "all runs of this submission are done"
            items.append(Rubbish(submission.folder, _size(submission.folder), why))
    going = {item.path for item in items}
    needed = {Path(one.code).name for one in sent if one.folder not in going}
    damaged = damaged_submissions(results)
    kept |= dict.fromkeys(damaged, "it cannot be read, so all code stays")
    for folder in sorted((results / "code").glob("[!.]*")):
        if folder.name not in needed and not damaged:
            why = "no unfinished submission runs this code"
            items.append(Rubbish(folder, _size(folder), why))
    features = results / "features"
    idle = shown.tasks == {} and not shown.hidden and not any(map(is_flocked, _holds(results)))
    there = features.is_dir() and (not features.is_symlink() or any(features.iterdir()))
    if there and idle:
        why = "features of frozen networks; made again where they are needed"
        items.append(Rubbish(features, _size(features), why))
    begun = [path for pattern in UNFINISHED for path in sorted(results.glob(pattern))]
    old = [path for path in begun if time.time() - path.lstat().st_mtime > BEGUN]
    items += [Rubbish(path, _size(path), "begun by a process that was killed") for path in old]
    return Found(items, kept)


def _holds(results: Path) -> list[Path]:
    """Locks of whoever trains, evaluates or makes features now."""
    patterns = ("runs/*/lock", "runs/*/evaluations/.lock", "features/*.lock")
    return [lock for pattern in patterns for lock in results.glob(pattern)]


def sweep(items: Sequence[Rubbish], results: Path) -> None:
    """Remove these, as far as that is still right; what cannot be removed is named."""
    from repro.harness.slurm.submissions import submitting

    with submitting(results, print):
        still = {item.path for item in look(results).items}
        for item in items:
            if item.path in still:
                try:
                    _remove(item.path)
                except OSError as error:
                    print(f"{item.path}: cannot be removed: {error.strerror}")


def _remove(path: Path) -> None:
    if path.name == "features":  # which may be a link to a larger disk
        for inside in path.iterdir():
            _remove(inside)
        if not path.is_symlink():
            path.rmdir()
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _needed(
    finished: Sequence[Submission], done: dict[str, RunFolder], shown: Shown
) -> dict[str, str]:
    """Why submissions stay although their runs are done, by id."""
    now, kept = time.time(), {}
    for submission in finished:
        ended = max((done[run].told().ended or 0.0 for run in submission.runs), default=0.0)
        if shown.tasks is None:
            kept[submission.id] = "SLURM's queue does not answer"
        elif any(task.key in shown.tasks for task in submission.tasks()):
            kept[submission.id] = "some of its jobs wait or run"
        elif submission.id in shown.hidden:
            kept[submission.id] = f"its jobs are not visible from here ({submission.by})"
        elif now - max(ended, submission.created) < SETTLED:
            kept[submission.id] = f"done or sent less than {SETTLED / 3600:.0f} hours ago"
    return kept


def _size(path: Path) -> int:
    inside = [path] if path.is_file() else path.rglob("*")
    return sum(one.stat().st_size for one in inside if one.is_file())
