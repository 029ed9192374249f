"""`repro gc`: what nobody needs any more: job pickles and logs of submissions, old code, and
features of frozen networks, which can be made again.

Run folders are never touched, nor anything of a submission that has a run which is not done.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.harness.runs.store import find_runs
from repro.harness.slurm.submissions import submissions


@dataclass(frozen=True)
class Rubbish:
    path: Path
    bytes: int
    why: str


def rubbish(results: Path) -> list[Rubbish]:
    """What could go."""
    done = {folder.id for folder in find_runs(results / "runs") if folder.result() is not None}
    found, needed = [], set()
    for submission in submissions(results):
        runs = {run for array in submission.arrays for task in array.tasks for run in task}
        if runs <= done:
            why = "all runs of this submission are done"
            found.append(Rubbish(submission.folder, _size(submission.folder), why))
        else:
            needed.add(Path(submission.code).name)
    for folder in sorted((results / "code").glob("*")):
        if folder.name not in needed:
            why = "no unfinished submission runs this code"
            found.append(Rubbish(folder, _size(folder), why))
    if (features := results / "features").is_dir():
        why = "features of frozen networks; made again where they are needed"
        found.append(Rubbish(features, _size(features), why))
    return found


def sweep(items: Sequence[Rubbish]) -> None:
    for item in items:
        shutil.rmtree(item.path)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
