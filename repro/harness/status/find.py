"""Which runs a person means, and how one of them is.

A pattern is an experiment (`T7`), rows (`T7:r2`), the beginning of a run id, a state, a glob on the
slug (`F7-*-s0`), a folder, or the name or a tag of a run of one's own. A run that two tables share
answers to both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from repro.config.identity import run_ids
from repro.errors import UserError, nearest
from repro.harness.experiments.address import with_colon
from repro.harness.experiments.experiment import known_ids, row_config, run_name, select
from repro.harness.experiments.folders import experiments_dir, scales_of
from repro.harness.runs.failures import FailureKind
from repro.harness.runs.planned import OWN
from repro.harness.runs.states import RunInfo, State
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.status.overview import Overview, View, overview
from repro.harness.status.triage import Cause

STATES = tuple(State)
ID_PREFIX = re.compile(r"[0-9a-f]{4,10}")


def find(patterns: Sequence[str], results: Path) -> tuple[list[RunFolder], Overview]:
    """The run folders that match any of the patterns (all without patterns), and how they are.

    SLURM is asked once, also where a pattern is a state.

    Raises:
        UserError: a pattern matches nothing; names the nearest one that would.
    """
    folders = find_runs(results / "runs")
    if not patterns:
        return folders, overview(folders, results)
    by_state = [pattern for pattern in patterns if pattern in STATES]
    matched = {
        folder.path
        for pattern in patterns
        if pattern not in STATES
        for folder in _matching(pattern, folders, results / "runs")
    }
    if not by_state:
        chosen = [folder for folder in folders if folder.path in matched]
        return chosen, overview(chosen, results)
    seen = overview(folders, results)
    matched |= {folder.path for folder in folders if seen.views[folder.id].state in by_state}
    chosen = [folder for folder in folders if folder.path in matched]
    return chosen, Overview({folder.id: seen.views[folder.id] for folder in chosen}, seen.notes)


def describe(folder: RunFolder, view: View) -> dict[str, Any]:
    """{id, experiment, row, seed, state, step, cause, ...}: the fixed shape of `status --json`.

    `cause` says why a run is failed, lost, interrupted or cancelled, `kind` in one word; both are
    null for all others. `stopped_on` says at which step of how many a done run ended early, and on
    what. `detail` says where a run waits or runs, `job` which SLURM job has it or
    its evaluation; `evaluation_cause` says why a done run could not be evaluated.
    """
    run, last = folder.told(), folder.last_step()
    return {
        "id": folder.id,
        "slug": folder.slug,
        "experiment": run.experiment,
        "row": run.row,
        "scale": run.scale,
        "seed": run.seed,
        "state": view.state,
        "step": last["step"] if last else 0,
        "total_steps": run.total_steps,
        "sentinel": _sentinel(view, last),
        "stopped_on": _stopped_on(folder, view.state, last, run.total_steps),
        "cause": cause_text(view.cause),
        "kind": view.cause.kind if view.cause else None,
        "host": view.cause.host if view.cause else run.host,
        "detail": view.detail,
        "job": view.task.job if view.task else None,
        "attempts": run.attempts,
        "evaluation": view.evaluation,
        "evaluation_cause": cause_text(view.evaluation_cause),
    }


def _sentinel(view: View, last: dict[str, Any] | None) -> str | None:
    """What a step looked like last; the step that is not finite ends a run before it is logged."""
    if view.cause and view.cause.kind == FailureKind.nan:
        return "nan"
    return last.get("sentinel") if last else None


def _stopped_on(
    folder: RunFolder, state: State, last: dict[str, Any] | None, total: int | None
) -> dict[str, Any] | None:
    """Asked only where the last step is not that of all epochs: a result is read for it."""
    if state is not State.done or last is None or last["step"] == total:
        return None
    with suppress(UserError):  # a damaged result, which its state says
        return (folder.result() or {}).get("stopped_on")
    return None


def cause_text(cause: Cause | None) -> str | None:
    """As people read it; None stays None."""
    return None if cause is None else f"{cause.line} (step {cause.step})"


def _matching(pattern: str, folders: list[RunFolder], runs: Path) -> list[RunFolder]:
    known = known_ids()
    pattern = with_colon(pattern, known)
    if pattern.partition(":")[0] in known:
        served = rows_of(pattern, folders)
        return [f for f in folders if f.id in served]
    matched = [
        folder
        for folder in folders
        if fnmatchcase(folder.slug, pattern)
        or fnmatchcase(folder.path.name, pattern)
        or (ID_PREFIX.fullmatch(pattern) and folder.id.startswith(pattern))
        or (os.sep in pattern and folder.path.resolve() == Path(pattern).resolve())
        or _called(pattern, folder.told())
    ]
    if not matched:
        known += [*STATES, *(f.id for f in folders), *(f.slug for f in folders)]
        raise UserError(f"no run in {runs} matches '{pattern}'; nearest: {nearest(pattern, known)}")
    return matched


def _called(word: str, run: RunInfo) -> bool:
    return word in (run.experiment, *run.tags) or (run.experiment == OWN and run.row == word)


def rows_of(reference: str, folders: list[RunFolder]) -> dict[str, str]:
    """By id, the row (with its variant) that a run serves, of `T7` or `T7:r1,r2`.

    For all scales and seeds that exist here. A run made before a default changed has another id
    now; it still answers to its label.
    """
    runs = [folder.told() for folder in folders]
    seeds = {run.seed for run in runs}
    served: dict[str, str] = {}
    for experiment, rows in select([reference]):
        names = {run_name(row, variant) for row in rows for variant in experiment.runs_a_row}
        for folder, run in zip(folders, runs, strict=True):
            if run.experiment == experiment.id and run.row in names:
                served[folder.id] = run.row
        for scale in {run.scale for run in runs} & set(scales_of(experiments_dir())):
            for row in (row for row in rows if not row.why_not(scale)):
                for variant in experiment.runs_a_row:
                    config = row_config(experiment, row, scale, 0, variant)
                    served |= dict.fromkeys(run_ids(config, seeds), run_name(row, variant))
    return served
