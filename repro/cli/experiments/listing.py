"""Every experiment with what is done of it: what `repro list` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from repro.config.identity import run_id
from repro.errors import UserError
from repro.harness.experiments.experiment import (
    Experiment,
    Row,
    experiment_ids,
    load,
    own_ids,
    row_config,
)
from repro.harness.experiments.folders import experiments_dir, published_in, scales_of
from repro.harness.runs.published import read, readable
from repro.harness.runs.records import Record
from repro.harness.runs.store import find_runs
from repro.terminal import print_table


def listing(results: Path) -> list[dict[str, Any]]:
    """One dict an experiment: {id, title, kind, rows, claims, trainable, done, own}.

    `rows`, `claims` and `trainable` are counts; `done` counts, by scale, the rows with at least one
    finished run, here or published. `own` ones come last; one that cannot be read is left out, with
    a line on standard error.
    """
    finished = _finished(results)
    return [
        {
            "id": experiment.id,
            "title": experiment.title,
            "kind": experiment.kind,
            "rows": len(experiment.rows),
            "claims": len(experiment.claims),
            "trainable": sum(row.trainable for row in experiment.rows),
            "done": {scale: _rows_done(experiment, scale, runs) for scale, runs in finished},
            "own": own,
        }
        for experiment, own in _experiments()
    ]


def _experiments() -> Iterator[tuple[Experiment, bool]]:
    """Each with whether it is somebody's own."""
    for name in experiment_ids():
        yield load(name), False
    for name in own_ids():
        try:
            yield load(name), True
        except UserError as mistake:
            print(f"left out: {mistake}", file=sys.stderr)


def print_listing(entries: Sequence[dict[str, Any]]) -> None:
    _print("", [entry for entry in entries if not entry["own"]])
    if own := [entry for entry in entries if entry["own"]]:
        _print("\nYour own (experiments/own)", own)


def _print(title: str, entries: Sequence[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        done = ", ".join(f"{n} at {scale}" for scale, n in entry["done"].items() if n)
        counts = f"{entry['trainable']} of {entry['rows']}"
        rows.append(
            [entry["id"], entry["kind"], entry["title"], counts, str(entry["claims"]), done or "-"]
        )
    print_table(title, ["id", "kind", "title", "rows trainable", "claims", "rows done"], rows)


def published_faults(results: Path) -> list[str]:
    """What is wrong with the published records, of which the others are counted."""
    files = sorted(published_in(results).glob("*/records.jsonl"))
    return [str(refusal) for file in files for refusal in read(file, Record).refused]


def _finished(results: Path) -> list[tuple[str, dict[str, int]]]:
    """By scale, the finished runs known here: {id: seed}."""
    by_scale: dict[str, dict[str, int]] = {}
    for file in sorted(published_in(results).glob("*/records.jsonl")):
        for record in readable(file):
            by_scale.setdefault(record.scale, {})[record.id] = record.seed
    for folder in find_runs(results / "runs"):
        if folder.is_done():
            run = folder.told()
            by_scale.setdefault(run.scale, {})[folder.id] = run.seed
    known = scales_of(experiments_dir())  # a damaged folder has none, a colleague's may be others
    return sorted((scale, runs) for scale, runs in by_scale.items() if scale in known)


def _rows_done(experiment: Experiment, scale: str, runs: dict[str, int]) -> int:
    seeds = set(runs.values())

    def done(row: Row, variant: str) -> bool:
        config = row_config(experiment, row, scale, 0, variant)
        return any(run_id(replace(config, seed=seed)) in runs for seed in seeds)

    trained = (row for row in experiment.rows if not row.why_not(scale))
    return sum(all(done(row, name) for name in experiment.runs_a_row) for row in trained)
