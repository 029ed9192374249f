"""A grid laid out by its axes: a table a metric, the last axis across, the others down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repro.harness.experiments.experiment import Experiment
from repro.harness.experiments.grid import Grid, Point, row_name, text_of

BLANK = "-"


@dataclass(frozen=True)
class Crossed:
    """One metric: the heads of its columns, and a line for every combination of the axes down."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def crossed(experiment: Experiment, cells: Mapping[str, Mapping[str, str]]) -> tuple[Crossed, ...]:
    """A table for every metric that has a number; none where there are fewer than two axes.

    Args:
        cells: by metric and row, what the table says of ours.
    """
    grid = experiment.grid
    if grid is None or len(grid.axes) < 2:
        return ()
    measured = [
        metric
        for metric in experiment.metrics
        if any(any(sign.isdigit() for sign in text) for text in cells[metric.key].values())
    ]
    return tuple(_laid_out(grid, metric.title, cells[metric.key]) for metric in measured)


def seen(grid: Grid, axes: Sequence[str]) -> list[tuple[str, ...]]:
    """The combinations of some axes that rows have, in the order of the axes."""
    order = [grid.texts(axis) for axis in axes]
    found = dict.fromkeys(_at(point, axes) for point in grid.points())
    return sorted(found, key=lambda at: [o.index(text) for o, text in zip(order, at, strict=True)])


def _at(point: Point, axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(text_of(point[axis]) for axis in axes)


def _laid_out(grid: Grid, metric: str, cells: Mapping[str, str]) -> Crossed:
    *down, across = grid.axes
    by_place = {
        (_at(point, down), _at(point, [across])): cells[row_name(point)] for point in grid.points()
    }
    columns = seen(grid, [across])
    return Crossed(
        f"{metric} by {', '.join(map(grid.title, down))} (down) and {grid.title(across)} (across)",
        (*map(grid.title, down), *(column[0] for column in columns)),
        tuple(
            (*line, *(by_place.get((line, column), BLANK) for column in columns))
            for line in seen(grid, down)
        ),
    )
