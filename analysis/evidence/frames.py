"""Cells and curves of an experiment as tidy pandas frames: one row a cell, one a curve's point."""

from __future__ import annotations

import pandas as pd

from analysis.evidence.evidence import Evidence
from repro.harness.experiments.experiment import Experiment, Row, row_config

CELL_COLUMNS = ["experiment", "row", "metric", "reported", "n", "mean", "values", "runs", "missing"]
CURVE_COLUMNS = ["experiment", "row", "seed", "epoch", "fraction", "metric", "value"]


def cells(experiment: Experiment, evidence: Evidence) -> pd.DataFrame:
    """One row per cell, in the order of the file.

    Columns: experiment, row, metric, reported, n, mean, values {seed: value}, runs {seed: id},
    missing. `reported` and `mean` are NaN where there is none.
    """
    rows = []
    for row in evidence.rows(experiment):
        for metric in experiment.metrics:
            cell = row.cell(metric.key)
            numbers = {**vars(cell), "n": len(cell.values), "mean": cell.mean}
            rows.append({**vars(cell.address), **numbers})
    frame = pd.DataFrame(rows, columns=CELL_COLUMNS)
    return frame.astype({"reported": float, "mean": float})


def curves(experiment: Experiment, evidence: Evidence) -> pd.DataFrame:
    """Our curves of `experiment.curves`: one row per row, seed, metric and point in time.

    `epoch` counts epochs done, `fraction` is that share of the whole training.
    """
    points = []
    for row in evidence.rows(experiment):
        for seed, run in row.runs().items():
            total = run.config["train"]["epochs"]
            for metric in experiment.curves:
                for epoch, value in run.curves.points(metric):
                    when = (experiment.id, row.name, seed, epoch, epoch / total)
                    points.append((*when, metric, value))
    return pd.DataFrame(points, columns=CURVE_COLUMNS)


def reported_curves(experiment: Experiment) -> pd.DataFrame:
    """The paper's curves, in the same columns (seed -1), as shares of the paper's own training."""
    points = []
    for row in experiment.rows:
        if not row.reported_curve:
            continue
        total = row_config(experiment, row, "paper", 0, experiment.runs_a_row[0]).train.epochs
        for metric in experiment.curves:
            for epoch, value in reported_curve(row, metric):
                points.append((experiment.id, row.name, -1, epoch, epoch / total, metric, value))
    return pd.DataFrame(points, columns=CURVE_COLUMNS)


def reported_curve(row: Row, metric: str) -> list[tuple[float, float]]:
    """(epoch, value) as digitised."""
    digitised = row.reported_curve or {}
    pairs = zip(digitised.get("epoch", []), digitised.get(metric, []), strict=False)
    return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]
