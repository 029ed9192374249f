"""Records of finished runs as tidy pandas frames: one row per cell, one row per curve point.

A record belongs to a row of an experiment when its id is the run id of that row's config at that
scale and seed. Nothing else is matched: a run that another table asked for serves this one too,
and a run whose config has since changed serves none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd

from repro.config.identity import canonical, run_ids
from repro.config.schema import RunConfig
from repro.errors import UserError, nearest
from repro.harness.evaluation.names import clean_tier
from repro.harness.experiments.experiment import Experiment, Metric, Row, load, row_config
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN, Missing
from repro.harness.runs.records import (
    PublishedEvaluation,
    Record,
    evaluations_of,
    read_evaluations,
    read_records,
    record,
    with_evaluations,
)
from repro.harness.runs.store import find_runs

PAPER = "paper"
_composed: dict[tuple[Path, str, str, str], RunConfig] = {}
Distance = dict[str, tuple[Any, Any]]  # dotted key: (ours, the paper's)
_distances: dict[tuple[Path, str, str, str], Distance] = {}


def published_dir(scale: str) -> Path:
    return results_dir() / "published" / scale


@dataclass(frozen=True)
class Evidence:
    """All records of one scale, by run id.

    The rest are answers kept, since tables, claims and verdicts ask for the same ones many times:
    the specs that claims address, the records of rows, the cells.
    """

    scale: str
    records: Mapping[str, Record]
    experiments: dict[str, Experiment] = field(default_factory=dict)
    rows: dict[tuple[Path, str, str], dict[int, Record]] = field(default_factory=dict)
    cells: dict[tuple[Path, str, str], Cell] = field(default_factory=dict)

    def experiment(self, name: str) -> Experiment:
        if name not in self.experiments:
            self.experiments[name] = load(name)
        return self.experiments[name]

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.records.values()})


def load_evidence(scale: str, published_only: bool = False) -> Evidence:
    """The published records of `scale` and the finished run folders they lack.

    Raises:
        UserError: no such scale.
    """
    scales = sorted(path.stem for path in (experiments_dir() / "scales").glob("*.yaml"))
    if scale not in scales:
        raise UserError(
            f"--scale {scale}: no such file in {experiments_dir() / 'scales'}; "
            f"nearest: {nearest(scale, scales)}"
        )
    records = published_records(scale)
    if not published_only:
        for folder in find_runs(results_dir() / "runs"):
            if folder.result() is None:
                continue
            known = records.get(folder.id) or record(folder)
            if known.scale == scale:
                records[folder.id] = with_evaluations(known, evaluations_of(folder))
    return Evidence(scale, records)


def published_records(scale: str) -> dict[str, Record]:
    """The records of published/<scale>/, with the evaluations published since, by run id."""
    folder = published_dir(scale)
    records = {run.id: run for run in read_records(folder / "records.jsonl")}
    later: dict[str, list[PublishedEvaluation]] = defaultdict(list)
    for one in read_evaluations(folder / "evaluations.jsonl"):
        later[one.run].append(one)
    return records | {i: with_evaluations(records[i], later[i]) for i in later if i in records}


@dataclass(frozen=True)
class Cell:
    """Row x metric: what the paper prints and what each seed gave us.

    `missing` says why there is no value of ours; it is None where there is one.
    """

    experiment: str
    row: str
    metric: str
    reported: float | None
    values: Mapping[int, float]
    runs: Mapping[int, str]
    missing: Missing | None

    @property
    def address(self) -> str:
        return f"{self.experiment}.{self.row}.{self.metric}"

    @property
    def mean(self) -> float | None:
        """Over our seeds; None where there are none."""
        return sum(self.values.values()) / len(self.values) if self.values else None


def config_of(experiment: Experiment, row: Row, scale: str, variant: str = "") -> RunConfig:
    """The composed config of a row, or of a variant of it, at seed 0."""
    key = (experiment.path, row.name, scale, variant)
    if key not in _composed:
        _composed[key] = row_config(experiment, row, scale, 0, variant)
    return _composed[key]


def all_runs_of(experiment: Experiment, row: Row, evidence: Evidence) -> list[Record]:
    """The records of a row, of all its variants and seeds."""
    by_variant = (runs_of(experiment, row, evidence, name) for name in experiment.runs_a_row)
    return [run for runs in by_variant for run in runs.values()]


def runs_of(
    experiment: Experiment, row: Row, evidence: Evidence, variant: str = ""
) -> dict[int, Record]:
    """The records of one row, or of a variant of it, by seed."""
    if row.why_not(evidence.scale) or not evidence.records:
        return {}
    key = (experiment.path, row.name, variant)
    if key not in evidence.rows:
        config = config_of(experiment, row, evidence.scale, variant)
        ids = zip(evidence.seeds, run_ids(config, evidence.seeds), strict=True)
        known = {seed: evidence.records.get(identity) for seed, identity in ids}
        evidence.rows[key] = {seed: run for seed, run in known.items() if run is not None}
    return evidence.rows[key]


def cell(experiment: Experiment, row: Row, metric: str, evidence: Evidence) -> Cell:
    """One cell; a run in which the metric is missing or not finite has no part in it."""
    key = (experiment.path, row.name, metric)
    if key not in evidence.cells:
        column = experiment.metric(metric)
        if column.minus:
            made = _difference(experiment, row, column, evidence)
        else:
            made = _measured(experiment, row, column, row.of.get(metric, column.of), evidence)
        evidence.cells[key] = made
    return evidence.cells[key]


def clean_cell(experiment: Experiment, row: Row, metric: str, evidence: Evidence) -> Cell | None:
    """The same cell in the clean tier; None where tiers do not differ."""
    column = experiment.metric(metric)
    source = clean_tier(row.of.get(metric, column.of))
    return _measured(experiment, row, column, source, evidence) if source else None


def _measured(
    experiment: Experiment, row: Row, column: Metric, source: str, evidence: Evidence
) -> Cell:
    runs = runs_of(experiment, row, evidence, column.variant)
    values = {seed: run.metrics.get(source) for seed, run in runs.items()}
    measured = {seed: value for seed, value in values.items() if value is not None}
    missing = row.why_not(evidence.scale)
    if not missing and not runs:
        missing = NOT_RUN
    elif not missing and not measured:
        missing = NOT_MEASURED
    return Cell(
        experiment=experiment.id,
        row=row.name,
        metric=column.key,
        reported=row.reported.get(column.key),
        values={seed: float(value) for seed, value in measured.items()},
        runs={seed: runs[seed].id for seed in measured},
        missing=missing,
    )


def _difference(experiment: Experiment, row: Row, column: Metric, evidence: Evidence) -> Cell:
    """One column minus another, seed by seed; its runs are those of the first."""
    first, second = (cell(experiment, row, key, evidence) for key in column.minus)
    seeds = [seed for seed in first.values if seed in second.values]
    return replace(
        first,
        metric=column.key,
        reported=row.reported.get(column.key),
        values={seed: first.values[seed] - second.values[seed] for seed in seeds},
        runs={seed: first.runs[seed] for seed in seeds},
        missing=None if seeds else first.missing or second.missing or NOT_MEASURED,
    )


def resolve_row(address: str, evidence: Evidence) -> tuple[Experiment, Row]:
    """The row that `T7.r1` names; the first dot ends the experiment.

    Raises:
        UserError: no such experiment or row.
    """
    name, _, row_name = address.partition(".")
    experiment = evidence.experiment(name)
    return experiment, experiment.row(row_name)


def resolve_metric(address: str, evidence: Evidence) -> Metric:
    """The metric that `T7.r1.knn` names; the last dot starts it.

    Raises:
        UserError: no such experiment, row or metric.
    """
    row_address, _, key = address.rpartition(".")
    experiment, _ = resolve_row(row_address, evidence)
    return experiment.metric(key)


def resolve(address: str, evidence: Evidence) -> Cell:
    """The cell that `T7.r1.knn` names.

    Raises:
        UserError: no such experiment, row or metric.
    """
    metric = resolve_metric(address, evidence)
    experiment, row = resolve_row(address.rpartition(".")[0], evidence)
    return cell(experiment, row, metric.key, evidence)


CELL_COLUMNS = ["experiment", "row", "metric", "reported", "n", "mean", "values", "runs", "missing"]


def cells(experiment: Experiment, evidence: Evidence) -> pd.DataFrame:
    """One row per cell, in the order of the spec.

    Columns: experiment, row, metric, reported, n, mean, values {seed: value}, runs {seed: id},
    missing. `reported` and `mean` are NaN where there is none.
    """
    rows = []
    for row in experiment.rows:
        for metric in experiment.metrics:
            c = cell(experiment, row, metric.key, evidence)
            missing = str(c.missing or "")
            rows.append({**vars(c), "missing": missing, "n": len(c.values), "mean": c.mean})
    frame = pd.DataFrame(rows, columns=CELL_COLUMNS)
    return frame.astype({"reported": float, "mean": float})


CURVE_COLUMNS = ["experiment", "row", "seed", "epoch", "fraction", "metric", "value"]


def curves(experiment: Experiment, evidence: Evidence) -> pd.DataFrame:
    """Our curves of `experiment.curves`: one row per row, seed, metric and point in time.

    `epoch` counts epochs done, `fraction` is that share of the whole training.
    """
    points = []
    for row in experiment.rows:
        for seed, run in runs_of(experiment, row, evidence).items():
            total = run.config["train"]["epochs"]
            for metric in experiment.curves:
                for epoch, value in run.curves.points(metric):
                    place = (experiment.id, row.name, seed, epoch, epoch / total)
                    points.append((*place, metric, value))
    return pd.DataFrame(points, columns=CURVE_COLUMNS)


def reported_curves(experiment: Experiment) -> pd.DataFrame:
    """The paper's curves, in the same columns (seed -1), as shares of the paper's own training."""
    points = []
    for row in experiment.rows:
        if not row.reported_curve:
            continue
        total = config_of(experiment, row, PAPER, experiment.runs_a_row[0]).train.epochs
        for metric in experiment.curves:
            for epoch, value in reported_curve(row, metric):
                points.append((experiment.id, row.name, -1, epoch, epoch / total, metric, value))
    return pd.DataFrame(points, columns=CURVE_COLUMNS)


def reported_curve(row: Row, metric: str) -> list[tuple[float, float]]:
    digitised = row.reported_curve or {}
    pairs = zip(digitised.get("epoch", []), digitised.get(metric, []), strict=False)
    return [(e, value) for e, value in pairs if e is not None and value is not None]


def protocol_distance(ours: Mapping[str, Any], paper: Mapping[str, Any]) -> Distance:
    """The dotted identity keys in which two canonical configs differ, as {key: (ours, paper)}.

    The seed is left out: the paper names none.
    """
    a, b = _flat(ours), _flat(paper)
    keys = [k for k in [*b, *(k for k in a if k not in b)] if k != "seed"]
    return {k: (a.get(k), b.get(k)) for k in keys if a.get(k) != b.get(k)}


def row_distance(experiment: Experiment, row: Row, scale: str, variant: str = "") -> Distance:
    """How far a row at `scale` is from the paper's own row."""
    key = (experiment.path, row.name, scale, variant)
    if key not in _distances:
        ours = canonical(config_of(experiment, row, scale, variant))
        paper = canonical(config_of(experiment, row, PAPER, variant))
        _distances[key] = protocol_distance(ours, paper)
    return _distances[key]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
