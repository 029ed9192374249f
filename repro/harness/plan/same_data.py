"""A data set is known by its content: a run that was made of other images under the same name is
neither shown as this one's result nor continued.

A data set's name is part of a run's identity, its folder is not, as folders move. What a run notes
of its images (env.json) tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.files import folder_fault
from repro.harness.evaluation.stage import has_checkpoint
from repro.harness.runs.store import RunFolder, find_runs, refresh_resources

if TYPE_CHECKING:
    from repro.config.schema import RunConfig
    from repro.harness.runs.planned import PlannedRun


def check_data(planned: Sequence[PlannedRun], runs: Path) -> None:
    """Compare images with those of the runs that are there; a run still without any takes them.

    Where the folder of the images is not on this machine there is nothing to compare.

    Raises:
        UserError: a run was made of other images than its config names now.
    """
    folders = {folder.id: folder for folder in find_runs(runs)}
    known: dict[str, dict[str, str]] = {}
    for run in planned:
        folder, config = folders.get(run.id), run.config
        if folder is None or config.data.made_here or not config.paths.data:
            continue
        try:
            before = folder.environment().get("data")
            theirs = folder.config()
        except UserError:  # damaged, which is said elsewhere
            continue
        if not (folder.is_done() or has_checkpoint(folder)):
            refresh_resources(folder, replace(theirs, paths=config.paths))
        elif folder_fault(config.paths.data):
            continue
        elif before and not (config.data.skip_unreadable and theirs.paths == config.paths):
            key = repr((asdict(config.data), asdict(config.paths)))
            if key not in known:
                known[key] = _digests(config)
            _compare(folder, theirs, config, before, known[key])
        elif not before and theirs.paths.data != config.paths.data:
            raise UserError(_line(folder, theirs, config, ["unrecorded"]))


def done_before(folders: Iterable[RunFolder]) -> str:
    """What is said of runs that were asked for and had nothing left to do."""
    names = [folder.path.name for folder in folders]
    shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
    return f"done before, nothing trained: {shown}"


def _digests(config: RunConfig) -> dict[str, str]:
    from repro.data.datasets import open_dataset

    paths = config.paths
    return open_dataset(config.data, paths.data, config.resources, None, paths.labelled).digests()


def _compare(
    folder: RunFolder,
    theirs: RunConfig,
    config: RunConfig,
    before: dict[str, str],
    now: dict[str, str],
) -> None:
    if changed := [part for part in now if before.get(part) != now[part]]:
        raise UserError(_line(folder, theirs, config, changed))


def _line(folder: RunFolder, theirs: RunConfig, config: RunConfig, parts: Sequence[str]) -> str:
    there = theirs.paths.data
    where = f"of {there}" if there != config.paths.data else "of what lay there before"
    return (
        f"paths.data={config.paths.data}: {folder.path.name} was made {where}, other images under "
        f"the same name ({' and '.join(parts)}); give these a name of their own: data.name=NAME"
    )
