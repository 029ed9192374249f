"""What the axes of a grid change: main effects and interactions, with intervals that hold together.

A main effect is the mean difference between a value of an axis and its first value, over all
combinations of the other axes that have both. An interaction is how far the effect of one axis
changes with another: a difference of two such differences. Each is a contrast of the linear model
over all rows and seeds (`evidence/model.py`), and the intervals of a metric are simultaneous by
Bonferroni: with 95 % confidence all of them hold what they should.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import Measured, ended_early, identity_of, source_of
from analysis.evidence.model import Table
from repro.harness.experiments.experiment import Experiment, Metric
from repro.harness.experiments.grid import Grid, Point, row_name, text_of

ALPHA = 0.05
Weights = dict[str, float]  # by row


def effects(experiment: Experiment, evidence: Evidence) -> list[str]:
    """A line for every effect of every metric that is measured; none without a grid."""
    grid = experiment.grid
    if grid is None:
        return []
    measured = Measured(evidence, [experiment])
    return [
        line for metric in experiment.metrics for line in _of(grid, experiment, metric, measured)
    ]


def contrasts(grid: Grid, rows: Mapping[str, object]) -> dict[str, Weights]:
    """Weights of rows by what they say: "momentum 0.99 - 0.9". Only `rows` take part."""
    points = [point for point in grid.points() if row_name(point) in rows]
    found = dict(_main_effects(grid, points))
    for one, other in combinations(grid.axes, 2):
        found |= dict(_interactions(grid, points, one, other))
    return found


def _of(grid: Grid, experiment: Experiment, metric: Metric, measured: Measured) -> Iterator[str]:
    names: dict[str, str] = {}
    tables: dict[str, Table] = {}
    for row in measured.evidence.rows(experiment):
        has_numbers = row.cell(metric.key).values and not ended_early(row, metric)
        if not metric.difference and has_numbers:
            names[row.name] = identity_of(row, metric)
            source = source_of(row, metric)
            tables[source] = measured.cells(source, False)
    if len(tables) != 1:
        return  # nothing is measured, or rows measure different things
    (table,) = tables.values()
    found = contrasts(grid, names)
    for title, weights in found.items():
        by_runs: Weights = defaultdict(float)
        for row_of_grid, weight in weights.items():
            by_runs[names[row_of_grid]] += weight
        estimate = table.contrast(dict(by_runs))
        alpha = ALPHA / len(found)
        low, high = estimate.bound(alpha / 2), estimate.bound(1 - alpha / 2)
        digits = metric.decimals + 1
        interval = "spread unknown"
        if not math.isnan(low):
            interval = f"{low:+.{digits}f} to {high:+.{digits}f}"
        yield f"{metric.title}: {title}: {estimate.mean:+.{digits}f} ({interval})"


def _main_effects(grid: Grid, points: list[Point]) -> Iterator[tuple[str, Weights]]:
    for axis in grid.axes:
        others = [name for name in grid.axes if name != axis]
        at = {(_key(p, others), text_of(p[axis])): row_name(p) for p in points}
        values = _values(grid, points, axis)
        for value in values[1:]:
            pairs = [
                (at[rest, value], at[rest, values[0]])
                for rest in dict.fromkeys(_key(point, others) for point in points)
                if (rest, value) in at and (rest, values[0]) in at
            ]
            if pairs:
                yield f"{grid.title(axis)} {value} - {values[0]}", _mean_difference(pairs)


def _interactions(
    grid: Grid, points: list[Point], one: str, other: str
) -> Iterator[tuple[str, Weights]]:
    others = [name for name in grid.axes if name not in (one, other)]
    at = {(_key(p, others), text_of(p[one]), text_of(p[other])): row_name(p) for p in points}
    ones, twos = _values(grid, points, one), _values(grid, points, other)
    rests = list(dict.fromkeys(_key(point, others) for point in points))
    for a in ones[1:]:
        for b in twos[1:]:
            corners = [
                [(rest, a, b), (rest, ones[0], b), (rest, ones[0], twos[0]), (rest, a, twos[0])]
                for rest in rests
            ]
            whole = [
                [at[corner] for corner in four] for four in corners if all(c in at for c in four)
            ]
            if whole:
                pairs = [pair for w in whole for pair in ((w[0], w[1]), (w[2], w[3]))]
                weights = {row: 2 * weight for row, weight in _mean_difference(pairs).items()}
                first = f"{grid.title(one)} {a} - {ones[0]}"
                yield f"({first}) at {grid.title(other)} {b} - at {twos[0]}", weights


def _values(grid: Grid, points: list[Point], axis: str) -> list[str]:
    """Those that there are, in the order of the axis: effects are told beside the first."""
    there = {text_of(point[axis]) for point in points}
    return [text for text in grid.texts(axis) if text in there]


def _mean_difference(pairs: list[tuple[str, str]]) -> Weights:
    weights: Weights = defaultdict(float)
    for plus, minus in pairs:
        weights[plus] += 1 / len(pairs)
        weights[minus] -= 1 / len(pairs)
    return dict(weights)


def _key(point: Point, axes: list[str]) -> tuple[str, ...]:
    return tuple(text_of(point[axis]) for axis in axes)
