"""The cells of a table as numbers, for csv: a line a cell and seed, one head for all tables.

What is said of the cell as a whole (mean, interval, verdict) stands on each of its lines; a cell
without a number of ours is one line without a seed. `value` is in `unit`, as the paper has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.evidence.evidence import Evidence
from analysis.evidence.frames import cells
from analysis.evidence.rows import PAPER, MeasuredRow
from analysis.evidence.stats import Spread, mean_interval
from analysis.verdicts.cells import CellVerdict, column_spread
from repro.harness.evaluation.names import tier_of
from repro.harness.experiments.experiment import Experiment, Metric
from repro.harness.experiments.missing import Reason

BY_THE_MACHINE = ("h", "G", "1/s")  # units of what a machine decides
TYPES: Mapping[str, str] = {
    "experiment": "str", "row": "str", "label": "str", "described": "str",
    "metric": "str", "title": "str", "unit": "str", "variant": "str", "tier": "str",
    "seed": "Int64", "value": "float64", "clean_value": "float64", "run": "str", "sentinel": "str",
    "n": "Int64", "mean": "float64", "low": "float64", "high": "float64", "spread": "str",
    "reported": "float64", "difference": "float64", "missing": "str",
    "verdict": "str", "rule": "str", "flips": "str", "keys_that_differ": "Int64", "source": "str",
}  # fmt: skip


def is_compared(metric: Metric, scale: str) -> bool:
    """Whether ours minus the paper's means something: not where other machines and other training
    make the number.
    """
    return scale == PAPER or metric.unit not in BY_THE_MACHINE


def tidy(
    experiment: Experiment,
    evidence: Evidence,
    verdicts: Mapping[tuple[str, str], CellVerdict],
) -> pd.DataFrame:
    """A line a cell and seed, in the order of the file; columns and types are those of `TYPES`."""
    of_cells = cells(experiment, evidence)[["row", "metric", "reported", "n", "mean"]]
    known = of_cells.set_index(["row", "metric"]).to_dict("index")
    spreads = {m.key: column_spread(experiment, m, evidence) for m in experiment.metrics}
    lines = []
    for row in evidence.rows(experiment):
        for metric in experiment.metrics:
            key = row.name, metric.key
            cell = {
                "experiment": experiment.id,
                **_named(row, metric),
                **{str(name): value for name, value in known[key].items()},
                **_judged(row, metric, spreads[metric.key], verdicts[key]),
            }
            lines += [cell | measured for measured in _measured(row, metric)]
    return pd.DataFrame(lines, columns=list(TYPES)).astype(dict(TYPES))


def _named(row: MeasuredRow, metric: Metric) -> dict[str, Any]:
    described = "; ".join(f"{k}: {v}" for k, v in row.row.described.items() if v != "")
    return {
        "row": row.name,
        "label": row.row.label,
        "described": described,
        "metric": metric.key,
        "title": metric.title,
        "unit": metric.unit,
        "variant": metric.variant,
        "tier": tier_of(row.source(metric.key)),
        "source": " ".join(row.row.source),
    }


def _measured(row: MeasuredRow, metric: Metric) -> Iterator[dict[str, Any]]:
    """What each seed gave."""
    cell, clean, runs = row.cell(metric.key), row.clean_cell(metric.key), row.runs(metric.variant)
    for seed, value in cell.values.items():
        yield {
            "seed": seed,
            "value": value,
            "clean_value": clean.values.get(seed) if clean else None,
            "run": cell.runs[seed],
            "sentinel": runs[seed].sentinel.state,
            "missing": "",
        }
    if not cell.values:
        yield {"run": "", "sentinel": "", "missing": str(cell.missing)}


def _judged(
    row: MeasuredRow, metric: Metric, spread: Spread | None, judged: CellVerdict
) -> dict[str, Any]:
    """Interval, difference and verdict of a cell."""
    cell = row.cell(metric.key)
    numbers = list(cell.values.values())
    interval = mean_interval(numbers, spread=spread) if numbers else None
    both = cell.mean is not None and cell.reported is not None
    trained = cell.missing is None or cell.missing.reason is Reason.NOT_MEASURED
    return {
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "spread": (interval.source or "own") if interval else "",
        "difference": (cell.mean or 0) - (cell.reported or 0)
        if both and is_compared(metric, row.scale)
        else None,
        "verdict": str(judged.verdict),
        "rule": judged.rule,
        "flips": judged.flips,
        "keys_that_differ": len(row.distance(metric.variant)) if trained else None,
    }
