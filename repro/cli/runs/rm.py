"""`repro rm`: run folders go, but never one that lives or that what is published was made from."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import add_yes

if TYPE_CHECKING:
    from repro.harness.runs.store import RunFolder
    from repro.harness.status.overview import View

HELP = "remove run folders, checkpoints and all; asks first"
EXAMPLE = "repro rm 0985"


def add(parser: argparse.ArgumentParser) -> None:
    text = "run id, name, tag, ID, rows, state or glob"
    parser.add_argument("patterns", nargs="+", metavar="PATTERN", help=text)
    add_yes(parser, "do not ask")


def run(arguments: argparse.Namespace) -> int:
    from repro.harness.experiments.folders import results_dir
    from repro.harness.status.find import find
    from repro.terminal import confirm, count

    folders, seen = find(arguments.patterns, results_dir())
    published = set(_published(folders, results_dir()))
    going = []
    for folder in folders:
        if why := _why_not(folder, seen.views[folder.id], published):
            print(f"kept     {folder.path.name}: {why}")
        else:
            print(f"{seen.views[folder.id].state:<8} {folder.path.name}  {_size(folder.path)}")
            going.append(folder)
    if not going:
        print("nothing to remove")
        return FINE
    if not confirm(f"Remove {count(len(going), 'run')}?", arguments.yes):
        print("nothing removed")
        return FINE
    gone = [remove(folder) for folder in going]
    print(f"{count(sum(gone), 'run')} removed")
    return FINE if all(gone) else NEGATIVE


def remove(folder: RunFolder) -> bool:
    """Whether it went: a run that somebody has begun to train since stays."""
    from repro.locks import Busy

    try:
        with folder.lock():
            # Out of everybody's sight at once, also where removing takes long or is cut off.
            hidden = folder.path.rename(folder.path.with_name(f".gone-{folder.path.name}"))
    except Busy:
        print(f"kept     {folder.path.name}: it has begun to train")
        return False
    shutil.rmtree(hidden)
    return True


def _why_not(folder: RunFolder, view: View, published: set[str]) -> str:
    from repro.harness.runs.states import LIVE

    if view.state in LIVE or view.sent or folder.is_locked():
        return f"it is {view.state if view.state in LIVE else 'at work'}; repro cancel {folder.id}"
    if folder.id in published:
        return "published records were made from it"
    return ""


def _published(folders: Sequence[RunFolder], results: Path) -> Iterator[str]:
    """The ids of those whose training is the published one, rather than a repetition of it."""
    from repro.harness.experiments.folders import published_in
    from repro.harness.runs.published import readable

    here = {folder.id: folder for folder in folders}
    for file in published_in(results).glob("*/records.jsonl"):
        for record in readable(file):
            folder = here.get(record.id)
            if folder and folder.told().started == record.times.started:
                yield record.id


def _size(path: Path) -> str:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{size / 1e6:.1f} MB"
