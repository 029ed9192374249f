"""`repro gc`: what nobody needs any more: job pickles and logs of submissions, old code, and
features of frozen networks, which can be made again.

Run folders are never touched, nor anything of a submission that has a run which is not done.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.cli.exit_codes import FINE
from repro.cli.options import add_yes

HELP = "remove what finished submissions left: job scripts, pickles, old code"
EXAMPLE = "repro gc --dry-run"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show it, remove nothing")
    add_yes(parser, "do not ask")


def run(arguments: argparse.Namespace) -> int:
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import confirm, count

    items = rubbish(results_dir())
    for item in items:
        print(f"{item.bytes / 1e6:10.1f} MB  {item.path}  {item.why}")
    total = sum(item.bytes for item in items) / 1e6
    print(f"{count(len(items), 'item')}, {total:.1f} MB")
    if items and not arguments.dry_run and confirm("Remove them?", arguments.yes):
        sweep(items)
    return FINE


@dataclass(frozen=True)
class Rubbish:
    path: Path
    bytes: int
    why: str


def rubbish(results: Path) -> list[Rubbish]:
    """What could go."""
    from repro.harness.runs.store import find_runs
    from repro.harness.slurm.submissions import submissions

    done = {folder.id for folder in find_runs(results / "runs") if folder.result() is not None}
    items, needed = [], set()
    for submission in submissions(results):
        runs = {run for array in submission.arrays for task in array.tasks for run in task}
        if runs <= done:
            why = "all runs of this submission are done"
            items.append(Rubbish(submission.folder, _size(submission.folder), why))
        else:
            needed.add(Path(submission.code).name)
    for folder in sorted((results / "code").glob("*")):
        if folder.name not in needed:
            why = "no unfinished submission runs this code"
            items.append(Rubbish(folder, _size(folder), why))
    if (features := results / "features").is_dir():
        why = "features of frozen networks; made again where they are needed"
        items.append(Rubbish(features, _size(features), why))
    return items


def sweep(items: Sequence[Rubbish]) -> None:
    for item in items:
        shutil.rmtree(item.path)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
