"""Experiments x scale x seeds -> the runs they need, each once, with state and cost.

Starts and writes nothing. Two rows, of one table or of two, whose resolved configs are equal need
one run; it carries the label of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repro.config import RunConfig
from repro.errors import UserError
from repro.harness.cost import Cost, estimate
from repro.harness.identity import run_id, slug
from repro.harness.overview import Overview, overview
from repro.harness.spec import row_config, select
from repro.harness.store import RunFolder, find_runs

SETTLED = ("done", "running")
UNEVALUATED = ("missing", "failed")


@dataclass(frozen=True)
class PlannedRun:
    """`state` is one of the store's, or "new"; `cells` are all (experiment, row) it serves.

    `sent`: a live SLURM job has it; `evaluation` is that of `overview.View`.
    """

    id: str
    experiment: str
    row: str
    seed: int
    state: str
    config: RunConfig
    slug: str
    cells: tuple[tuple[str, str], ...]
    sent: bool = False
    evaluation: str = ""


@dataclass(frozen=True)
class Plan:
    """`skipped` holds (experiment, row, why); `cost` is None where nothing comparable finished."""

    runs: tuple[PlannedRun, ...]
    skipped: tuple[tuple[str, str, str], ...]
    cost: Cost | None

    @property
    def todo(self) -> tuple[PlannedRun, ...]:
        """What a submission would train: everything but done, running and sent ones."""
        return tuple(run for run in self.runs if to_do(run))

    @property
    def to_evaluate(self) -> tuple[PlannedRun, ...]:
        """Trained runs that lack a protocol and have no job that will run it."""
        return tuple(run for run in self.runs if to_evaluate(run))


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
    seen = overview([folders[run.id] for run in runs.values() if run.id in folders], results)
    known = tuple(with_view(run, seen) for run in runs.values())
    todo = {run.id: run.config for run in known if to_do(run)}
    return Plan(known, tuple(skipped), estimate(todo, scale, results))


def to_do(run: PlannedRun) -> bool:
    return run.state not in SETTLED and not run.sent


def to_evaluate(run: PlannedRun) -> bool:
    return run.state == "done" and run.evaluation in UNEVALUATED


def with_view(run: PlannedRun, seen: Overview) -> PlannedRun:
    """The run as an overview found it; one without a folder is new."""
    view = seen.views.get(run.id)
    if view is None:
        return run
    return replace(run, state=view.state, sent=view.sent, evaluation=view.evaluation)


def planned_run(config: RunConfig, folders: dict[str, RunFolder]) -> PlannedRun:
    """One run as its label and its folder, if there is one, name it; its state is not looked at."""
    identity, label = run_id(config), config.label
    folder = folders.get(identity)
    return PlannedRun(
        id=identity,
        experiment=label.experiment,
        row=label.row,
        seed=config.seed,
        state="new",
        config=config,
        slug=folder.slug if folder else slug(config, label.experiment, label.row),
        cells=((label.experiment, label.row),),
    )
