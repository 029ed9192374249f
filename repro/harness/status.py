"""Which runs a person means, how they are, and what their logs say.

A pattern is an experiment (`T7`), rows (`T7:r2`), the beginning of a run id, a state, or a glob on
the slug (`F7-*-s0`). A run that two tables share answers to both.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from repro.errors import UserError, nearest
from repro.harness.identity import run_id
from repro.harness.spec import experiment_ids, row_config, run_name, select
from repro.harness.store import STATES, RunFolder, find_runs
from repro.harness.terminal import print_table

LOG_LINES = 20
ID_PREFIX = re.compile(r"[0-9a-f]{4,10}")


def find(patterns: Sequence[str], runs: Path) -> list[RunFolder]:
    """The run folders that match any of the patterns; all without patterns.

    Raises:
        UserError: a pattern matches nothing; names the nearest one that would.
    """
    folders = find_runs(runs)
    if not patterns:
        return folders
    matched = {folder.path for pattern in patterns for folder in _matching(pattern, folders, runs)}
    return [folder for folder in folders if folder.path in matched]


def describe(folder: RunFolder) -> dict[str, Any]:
    """{id, experiment, row, seed, state, step, cause, scale, slug, total_steps, sentinel}.

    `cause` says why a run is failed or lost; it is null for all others.
    """
    run, state, last = folder.read_run(), folder.state(time.time()), folder.last_step()
    return {
        "id": folder.id,
        "slug": folder.slug,
        "experiment": run["experiment"],
        "row": run["row"],
        "scale": run["scale"],
        "seed": run["seed"],
        "state": state,
        "step": last["step"] if last else 0,
        "total_steps": run.get("total_steps"),
        "sentinel": last["sentinel"] if last else None,
        "cause": _cause(folder, state),
    }


def print_status(entries: Sequence[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        steps = f"{entry['step']}/{entry['total_steps'] or '?'}"
        said = entry["cause"] or entry["sentinel"] or ""
        rows.append([entry["id"], entry["slug"], entry["state"], steps, said])
    if rows:
        print_table("", ["id", "run", "state", "step", ""], rows)
    counts = Counter(entry["state"] for entry in entries)
    print(", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no runs")


def print_log(folder: RunFolder) -> None:
    """The end of a run's log under its name; what ended it comes first."""
    state = folder.state(time.time())
    print(f"== {folder.path.name} ({state})")
    if cause := _cause(folder, state):
        print(f"{state}: {cause}")
    try:
        lines = (folder.path / "log.txt").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = ["(no log: it has not started)"]
    print("\n".join(lines[-LOG_LINES:]))


def _cause(folder: RunFolder, state: str) -> str | None:
    failure = folder.failure()
    if state == "failed" and failure:
        return f"{failure['line']} (step {failure['step']})"
    if state == "lost":
        age = folder.heartbeat_age(time.time())
        ago = "" if age is None else f", {age:.0f} s after its last heartbeat"
        return f"its worker is gone without a word{ago}; repro retry {folder.id}"
    return None


def _matching(pattern: str, folders: list[RunFolder], runs: Path) -> list[RunFolder]:
    name = pattern.partition(":")[0]
    if name in experiment_ids():
        wanted = _ids_of(pattern, folders)
        return [f for f in folders if f.id in wanted]
    if pattern in STATES:
        return [f for f in folders if f.state(time.time()) == pattern]
    matched = [
        folder
        for folder in folders
        if fnmatchcase(folder.slug, pattern)
        or fnmatchcase(folder.path.name, pattern)
        or (ID_PREFIX.fullmatch(pattern) and folder.id.startswith(pattern))
        or folder.read_run()["experiment"] == pattern
    ]
    if not matched:
        known = [*experiment_ids(), *STATES, *(f.id for f in folders), *(f.slug for f in folders)]
        raise UserError(f"no run in {runs} matches '{pattern}'; nearest: {nearest(pattern, known)}")
    return matched


def _ids_of(reference: str, folders: list[RunFolder]) -> set[str]:
    """Ids of all runs that serve these rows, at the scales and seeds that exist here.

    A run made before a default changed has another id now; it still answers to its label.
    """
    labels = [folder.read_run() for folder in folders]
    seeds = {run["seed"] for run in labels}
    wanted = set()
    for experiment, rows in select([reference]):
        names = {run_name(row, variant) for row in rows for variant in experiment.runs_a_row}
        for folder, run in zip(folders, labels, strict=True):
            if run["experiment"] == experiment.id and run["row"] in names:
                wanted.add(folder.id)
        for scale in {run["scale"] for run in labels}:
            for row in (row for row in rows if not row.why_not(scale)):
                for variant in experiment.runs_a_row:
                    config = row_config(experiment, row, scale, 0, variant)
                    wanted |= {run_id(replace(config, seed=seed)) for seed in seeds}
    return wanted
