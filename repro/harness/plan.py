"""Experiments x scale x seeds -> the runs they need, each once, with state and cost.

Starts and writes nothing. Two rows, of one table or of two, whose resolved configs are equal need
one run; it carries the label of the first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from repro.config import RunConfig
from repro.errors import UserError
from repro.harness.files import read_json
from repro.harness.identity import run_id, slug
from repro.harness.spec import row_config, select
from repro.harness.store import RunFolder, find_runs, read_records

SETTLED = ("done", "running")


@dataclass(frozen=True)
class PlannedRun:
    """`state` is one of the store's, or "new"; `cells` are all (experiment, row) it serves."""

    id: str
    experiment: str
    row: str
    seed: int
    state: str
    config: RunConfig
    slug: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cost:
    """Of all runs that are still to do, from finished ones; each training process counts."""

    cpu_hours: float  # hours of one core
    gpu_hours: float  # hours of one GPU; 0 for runs without
    basis: int  # how many finished runs the estimate rests on


@dataclass(frozen=True)
class Plan:
    """`skipped` holds (experiment, row, why); `cost` is None where nothing comparable finished."""

    runs: tuple[PlannedRun, ...]
    skipped: tuple[tuple[str, str, str], ...]
    cost: Cost | None

    @property
    def todo(self) -> tuple[PlannedRun, ...]:
        """What a submission would start: everything but done and running ones."""
        return tuple(run for run in self.runs if run.state not in SETTLED)


def plan(references: Sequence[str], scale: str, seeds: int, results: Path) -> Plan:
    """The runs of `references` (`T7`, `F7:both`, `all`) for seeds 0 to `seeds` - 1.

    Raises:
        UserError: unknown experiment, row or scale; a mistake in a file; no seeds.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: at least 1")
    folders = {folder.id: folder for folder in find_runs(results / "runs")}
    runs: dict[str, PlannedRun] = {}
    skipped = []
    for experiment, rows in select(references):
        for row in rows:
            if why := row.why_not(scale):
                skipped.append((experiment.id, row.name, why))
                continue
            for variant in experiment.runs_a_row:
                base = row_config(experiment, row, scale, 0, variant)
                for seed in range(seeds):
                    run = planned_run(replace(base, seed=seed), folders)
                    if run.id in runs:
                        run = replace(runs[run.id], cells=runs[run.id].cells + run.cells)
                    runs[run.id] = run
    todo = [run for run in runs.values() if run.state not in SETTLED]
    return Plan(tuple(runs.values()), tuple(skipped), estimate(todo, scale, results))


def planned_run(config: RunConfig, folders: dict[str, RunFolder]) -> PlannedRun:
    """One run as its label and its folder, if there is one, describe it."""
    identity, label = run_id(config), config.label
    folder = folders.get(identity)
    return PlannedRun(
        id=identity,
        experiment=label.experiment,
        row=label.row,
        seed=config.seed,
        state=folder.state(time.time()) if folder else "new",
        config=config,
        slug=folder.slug if folder else slug(config, label.experiment, label.row),
        cells=((label.experiment, label.row),),
    )


def estimate(todo: Sequence[PlannedRun], scale: str, results: Path) -> Cost | None:
    """Median cost of finished runs of the same experiment and scale, else of the same scale."""
    finished = _finished(scale, results)
    if todo and not finished:
        return None
    cpu = gpu = 0.0
    basis: set[str] = set()
    for run in todo:
        same = {i: cost for i, cost in finished.items() if cost[0] == run.experiment} or finished
        cpu += median(cores for _, cores, _ in same.values())
        gpu += median(gpus for _, _, gpus in same.values())
        basis |= same.keys()
    return Cost(cpu, gpu, len(basis))


def _finished(scale: str, results: Path) -> dict[str, tuple[str, float, float]]:
    """(experiment, core hours, GPU hours) of every finished run known here, by run id."""
    costs = {}
    for published in read_records(results / "published" / scale / "records.jsonl"):
        experiment = published["slug"].partition("-")[0]
        wall = published["times"]["wall_seconds"]
        costs[published["id"]] = (experiment, *_hours(wall, published["env"]))
    for folder in find_runs(results / "runs"):
        run, result = folder.read_run(), folder.result()
        env = read_json(folder.path / "env.json")
        if result is not None and env is not None and run.get("scale") == scale:
            costs[folder.id] = (run["experiment"], *_hours(result["wall_seconds"], env))
    return costs


def _hours(wall_seconds: float, env: dict[str, Any]) -> tuple[float, float]:
    hours, hardware = wall_seconds / 3600, env["hardware"]
    return hours * hardware["threads"], hours if hardware["gpu"] else 0.0
