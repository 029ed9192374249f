"""Every experiment with what is done of it: what `repro list` prints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.identity import run_ids
from repro.harness.experiments.experiment import Experiment, Row, row_config
from repro.harness.experiments.folders import experiments_dir, published_in, scales_of
from repro.harness.experiments.own import every_experiment
from repro.harness.runs.published import published_runs, read
from repro.harness.runs.records import Record
from repro.harness.runs.store import find_runs
from repro.terminal import print_table


@dataclass(frozen=True)
class Finished:
    """The runs that a scale has, {id: seed}: as they were published, and here."""

    published: dict[str, int]
    here: dict[str, int]

    @property
    def all(self) -> dict[str, int]:
        return self.published | self.here


def listing(results: Path) -> list[dict[str, Any]]:
    """One dict an experiment: {id, title, kind, rows, claims, trainable, done, published, here,
    own}.

    `rows`, `claims` and `trainable` are counts; `done` counts, by scale, the rows with at least one
    finished run, of which `published` are published and `here` were trained here. `own` ones come
    last; one that cannot be read is left out, with a line on standard error.
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
            **_rows_done(experiment, finished),
            "own": own,
        }
        for experiment, own in every_experiment()
    ]


def print_listing(entries: Sequence[dict[str, Any]]) -> None:
    _print("", [entry for entry in entries if not entry["own"]])
    if own := [entry for entry in entries if entry["own"]]:
        _print("\nYour own (experiments/own)", own)


def _print(title: str, entries: Sequence[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        counts = f"{entry['trainable']} of {entry['rows']}"
        done = [_by_scale(entry[whose]) for whose in ("published", "here")]
        rows.append(
            [entry["id"], entry["kind"], entry["title"], counts, str(entry["claims"]), *done]
        )
    columns = ["id", "kind", "title", "rows trainable", "claims", "rows published", "rows here"]
    print_table(title, columns, rows)


def _by_scale(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} at {scale}" for scale, n in counts.items() if n) or "-"


def published_faults(results: Path) -> list[str]:
    """What is wrong with the published records, of which the others are counted."""
    files = sorted(published_in(results).glob("*/records.jsonl"))
    return [str(refusal) for file in files for refusal in read(file, Record).refused]


def _finished(results: Path) -> dict[str, Finished]:
    """By scale."""
    published: defaultdict[str, dict[str, int]] = defaultdict(dict)
    here: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for scale, records in published_runs(published_in(results)).items():
        published[scale] = {record.id: record.seed for record in records}
    for folder in find_runs(results / "runs"):
        if folder.is_done():
            run = folder.told()
            here[run.scale][folder.id] = run.seed
    known = scales_of(experiments_dir())  # a damaged folder has none, a colleague's may be others
    scales = sorted({*published, *here} & {*known})
    return {scale: Finished(published[scale], here[scale]) for scale in scales}


def _rows_done(experiment: Experiment, finished: dict[str, Finished]) -> dict[str, dict[str, int]]:
    """How many rows are done, published and here, each by scale."""
    counts: dict[str, dict[str, int]] = {"done": {}, "published": {}, "here": {}}
    for scale, runs in finished.items():
        sets = {"done": runs.all, "published": runs.published, "here": runs.here}
        trained = [row for row in experiment.rows if not row.why_not(scale)]
        served = [_ids(experiment, row, scale, set(runs.all.values())) for row in trained]
        for whose, ids in sets.items():
            counts[whose][scale] = sum(
                all(any(one in ids for one in variant) for variant in row) for row in served
            )
    return counts


def _ids(experiment: Experiment, row: Row, scale: str, seeds: set[int]) -> list[list[str]]:
    """Of each run that a row wants, its ids at these seeds."""
    configs = (row_config(experiment, row, scale, 0, name) for name in experiment.runs_a_row)
    return [list(run_ids(config, seeds)) for config in configs]
