"""Runs that were made for rows of an experiment, and that no row asks for any more.

A row was taken out of the file, or changed: then its run has another id. Seeds that a command does
not name are asked for all the same; so is a run that a row of another experiment needs.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from repro.config.identity import run_ids
from repro.errors import UserError
from repro.harness.experiments.experiment import Experiment, known_ids, load, row_config
from repro.harness.runs.store import RunFolder, find_runs


def unasked(names: Collection[str], scale: str, results: Path) -> list[RunFolder]:
    """Those that were made for these experiments at a scale.

    Raises:
        UserError: a mistake in one of their files.
    """
    made = {folder: folder.told() for folder in find_runs(results / "runs")}
    left = {
        folder.id: folder
        for folder, run in made.items()
        if run.experiment in names and run.scale == scale
    }
    seeds = {made[folder].seed for folder in left.values()}
    for name in names:
        if left:
            left = _without(left, _asked(load(name), scale, seeds))
    for name in known_ids():
        if left and name not in names:
            try:
                left = _without(left, _asked(load(name), scale, seeds))
            except UserError:  # its mistakes are told where it is named; it may ask for any run
                return []
    return list(left.values())


def _asked(experiment: Experiment, scale: str, seeds: Collection[int]) -> set[str]:
    return {
        identity
        for row in experiment.rows
        if not row.why_not(scale)
        for variant in experiment.runs_a_row
        for identity in run_ids(row_config(experiment, row, scale, 0, variant), seeds)
    }


def _without(left: dict[str, RunFolder], asked: set[str]) -> dict[str, RunFolder]:
    return {identity: folder for identity, folder in left.items() if identity not in asked}
