"""Ablations over one variable (App. C to F, Table 9) as curves: the paper's, and ours beside it.

The experiment file says what is varied: the column with the paper's numbers, the config key (K,
batch size, epochs) that holds what this scale uses for them, and the columns of yes and no (the
bottleneck of App. C) that make a curve each.

Departures: the data differ, so our numbers have a panel of their own, with the paper's range, in
which a point of accuracy is as long; a row that is no number (a temperature that warms up) or that
says more than its number (half of the epochs) stands apart from the curve. Accuracies at chance
are written at the foot of the panel instead of stretching it down to zero. Our curve joins means
over the seeds that all of its rows have; other seeds are dots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.figures.marks import (
    DOTTED,
    FLOOR,
    MEAN,
    Point,
    draw_seeds,
    from_zero,
    legend,
    random_floor,
    same_range,
    say_clear,
    whiskers,
)
from analysis.figures.metrics import (
    ACCURACY,
    KNN,
    axis_label,
    common_seeds,
    in_words,
    is_measured,
    seeds_named,
)
from analysis.figures.style import (
    GREY,
    OUR_COLOUR,
    PAPER_COLOUR,
    SMALL,
    Look,
    looks,
    ours,
    panels,
)
from analysis.verdicts.cells import column_spread
from analysis.verdicts.outputs import at_chance
from repro.harness.experiments.experiment import Column, Experiment, Metric, Row
from repro.harness.experiments.figure import AblationFigure

WIDE = 8.0  # ratio of largest to smallest number from which an axis is logarithmic
CLOSE_TO_ONE = 0.99  # momenta: drawn by the logarithm of 1 - m


@dataclass(frozen=True)
class Variable:
    """What an ablation varies: the column, the config key, and for every row that has one its
    number in the paper.
    """

    column: Column
    key: str
    families: tuple[Column, ...]
    numbers: Mapping[str, float]

    def family(self, row: Row) -> str:
        """Which of several curves a row belongs to; empty where there is one."""
        return ", ".join(
            f"{c.title if row.described[c.key] else 'no ' + c.title}" for c in self.families
        )

    def note(self, row: Row) -> str:
        """What a row's label says beyond its number; such a row stands apart."""
        return "" if self.families else row.label.partition(", ")[2]

    def joins(self, row: Row) -> bool:
        """Whether a row is a point of the curve."""
        return row.name in self.numbers and not self.note(row)

    @property
    def logarithmic(self) -> str:
        """Of what the axis is logarithmic: of nothing (empty), of x, or of 1 - x."""
        values = list(self.numbers.values())
        if min(values) >= 0 and CLOSE_TO_ONE <= max(values) < 1:
            return f"1 - {self.column.title}"
        return self.column.title if min(values) > 0 and max(values) >= WIDE * min(values) else ""

    def position(self, value: float) -> float:
        """Where a number stands on the axis."""
        if not self.logarithmic:
            return value
        return math.log(value) if self.logarithmic == self.column.title else -math.log(1 - value)


def variable_of(experiment: Experiment) -> Variable:
    """What the file says of it, with the numbers of the rows that have one."""
    figure = experiment.figure
    assert isinstance(figure, AblationFigure), f"{experiment.id} is drawn as {figure.kind}"
    columns = {column.key: column for column in experiment.layout}
    numbers = {
        row.name: number
        for row in experiment.rows
        if (number := _number(row.described.get(figure.over))) is not None
    }
    families = tuple(columns[key] for key in figure.curves)
    return Variable(columns[figure.over], figure.key, families, numbers)


def numbers_at(
    experiment: Experiment, variable: Variable, evidence: Evidence
) -> Mapping[str, float]:
    """The variable's numbers at our scale; the paper's where no config key holds them."""
    if not variable.key:
        return variable.numbers
    number, variant = attrgetter(variable.key), experiment.runs_a_row[0]
    return {
        row.name: float(number(row.config(variant)))
        for row in evidence.rows(experiment)
        if row.name in variable.numbers
    }


def draw_ablation(experiment: Experiment, evidence: Evidence) -> Figure:
    """A pair of panels a metric: the paper's curve, and ours with seeds and interval."""
    variable = variable_of(experiment)
    metrics = _metrics(experiment, evidence)
    figure, grid = panels(len(metrics), 2, height=0.75 + 2.2 * len(metrics))
    here = numbers_at(experiment, variable, evidence)
    styles = looks(list(dict.fromkeys(variable.family(row) for row in experiment.rows)))
    for (left, right), metric in zip(grid, metrics, strict=True):
        reported = {
            row.name: row.reported[metric.key]
            for row in experiment.rows
            if metric.key in row.reported
        }
        paper = _Panel(left, variable, experiment.rows, variable.numbers, reported, metric)
        measured = [row for row in evidence.rows(experiment) if row.cell(metric.key).values]
        joined = [row for row in measured if variable.joins(row.row)]
        seeds = common_seeds(joined or measured, [metric.key])
        means = {row.name: _mean(row, metric, seeds) for row in measured}
        own = _Panel(right, variable, experiment.rows, here, means, metric)
        _curves(paper, styles, PAPER_COLOUR, "D")
        _curves(own, styles, OUR_COLOUR, "o", joins=bool(seeds))
        colours = {r.name: styles[variable.family(r.row)].colour for r in measured}
        for row in measured:
            colour = colours[row.name] if len(styles) > 1 else OUR_COLOUR
            _spread(own, experiment, evidence, row, seeds, colour)
        _floor(own, measured, seeds)
        for panel in (paper, own):
            _axis(panel, experiment)
        if metric.unit == ACCURACY:
            same_range((left, right), upright=True)
        else:
            from_zero(right, upright=True)
        left.set_ylabel(axis_label(metric))
        left.set_title("paper")
        right.set_title(
            f"{ours(evidence)}, line: {seeds_named(seeds)}" if seeds else ours(evidence)
        )
        for panel in (paper, own):
            panel.say_numbers(styles)
    families = [
        Line2D([], [], color=look.colour, ls=look.dashes, marker=look.marker, ms=5, label=family)
        for family, look in styles.items()
        if family
    ]
    legend(figure, families)
    return figure


@dataclass(frozen=True)
class _Panel:
    """One panel: of which rows it shows which values of a metric, and where those stand."""

    axes: Axes
    variable: Variable
    rows: Sequence[Row]
    numbers: Mapping[str, float]
    values: Mapping[str, float]
    metric: Metric

    def position(self, row: Row) -> float:
        return _position(self.variable, row, self.numbers)

    def point(self, row: Row) -> Point:
        return self.position(row), self.values[row.name]

    @property
    def at_foot(self) -> list[Row]:
        """Rows at chance."""
        percent = self.metric.unit == ACCURACY
        known = (row for row in self.rows if row.name in self.values)
        return [row for row in known if percent and at_chance(self.values[row.name])]

    @property
    def shown(self) -> list[Row]:
        """Rows with a number above chance."""
        return [r for r in self.rows if r.name in self.values and r not in self.at_foot]

    def line(self, family: str) -> list[Row]:
        """The rows of a curve, from left to right."""
        rows = [row for row in self.shown if self.variable.joins(row)]
        own = [row for row in rows if self.variable.family(row) == family]
        return sorted(own, key=self.position)

    def say_numbers(self, styles: Mapping[str, Look]) -> None:
        """Beside the points, clear of the curves and of all that was drawn."""
        shown = [(row, styles[self.variable.family(row)].colour) for row in self.shown]
        numbers = [
            (self.point(row), f"{self.values[row.name]:,.{self.metric.decimals}f}",
             colour if len(styles) > 1 else GREY)
            for row, colour in shown
        ]  # fmt: skip
        lines = [
            [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
            for line in self.axes.lines
            if line.get_transform() == self.axes.transData
        ]
        if numbers:
            say_clear(self.axes, numbers, lines)


def _metrics(experiment: Experiment, evidence: Evidence) -> list[Metric]:
    """Those that the paper prints with different numbers, accuracies first."""
    varied = [
        metric
        for metric in experiment.metrics
        if len({row.reported.get(metric.key) for row in experiment.rows}) > 1
        and is_measured(experiment, metric, evidence)
    ]
    return sorted(varied or experiment.metrics[:1], key=lambda metric: metric.unit != ACCURACY)


def _mean(row: MeasuredRow, metric: Metric, seeds: Sequence[int]) -> float:
    """Over these seeds where the row has them all, else over its own."""
    values = row.cell(metric.key).values
    chosen = seeds if seeds and set(seeds) <= values.keys() else list(values)
    return float(np.mean([values[seed] for seed in chosen]))


def _curves(
    panel: _Panel, styles: Mapping[str, Look], colour: Any, mark: str, joins: bool = True
) -> None:
    """A line a family, hollow marks for rows that stand apart, crosses at the foot."""
    for family, look in styles.items():
        several = len(styles) > 1
        how = {
            "color": look.colour if several else colour,
            "marker": look.marker if several else mark,
        }
        line = panel.line(family)
        if line:
            x, y = zip(*map(panel.point, line), strict=True)
            panel.axes.plot(x, y, ms=5, lw=1.4, ls=look.dashes if joins else "", **how)
        for row in panel.shown:
            if panel.variable.family(row) == family and row not in line:
                panel.axes.plot(
                    *([value] for value in panel.point(row)),
                    ms=5.5,
                    mfc="white",
                    mew=1.3,
                    ls="",
                    **how,
                )
        for row in panel.at_foot:
            if panel.variable.family(row) == family:
                _write_at_foot(panel, row, how["color"])


def _write_at_foot(panel: _Panel, row: Row, colour: Any) -> None:
    axes, x = panel.axes, panel.position(row)
    foot = axes.get_xaxis_transform()
    axes.plot([x], [0.06], "x", color=colour, ms=7, mew=1.8, transform=foot)
    axes.annotate(
        f"{panel.values[row.name]:.{panel.metric.decimals}f}: chance", (x, 0.06), xycoords=foot,
        xytext=(0, 9), textcoords="offset points", ha="center", va="center", **SMALL,
    )  # fmt: skip


def _spread(
    panel: _Panel,
    experiment: Experiment,
    evidence: Evidence,
    row: MeasuredRow,
    seeds: Sequence[int],
    colour: Any,
) -> None:
    """Every seed, the interval, and the mean that it is of where the curve joins fewer seeds."""
    axes, x, metric = panel.axes, panel.position(row.row), panel.metric
    values = row.cell(metric.key).values
    draw_seeds(axes, x, row, metric, upright=True, color=colour)
    if set(values) - set(seeds):
        mean = float(np.mean(list(values.values())))
        axes.plot([x], [mean], "_", color="black", ms=9, mew=1.4, label=MEAN)
    spread = column_spread(experiment, metric, evidence)
    whiskers(axes, x, list(values.values()), spread=spread)


def _floor(panel: _Panel, rows: Sequence[MeasuredRow], seeds: Sequence[int]) -> None:
    """k-NN of the networks before training, of the seeds that the curve joins."""
    if panel.metric.measured != KNN:
        return
    variant = panel.metric.variant
    known = [(panel.position(row.row), random_floor(row, variant, seeds)) for row in rows]
    points = sorted((x, floor) for x, floor in known if floor is not None)
    if points:
        (first, begin), (last, end) = points[0], points[-1]
        beyond = 0.1 * (last - first) or 0.1
        points = [(first - beyond, begin), *points, (last + beyond, end)]
        panel.axes.plot(*zip(*points, strict=True), **DOTTED, label=FLOOR)


def _position(variable: Variable, row: Row, numbers: Mapping[str, float]) -> float:
    """Where a row stands; one that has no number, one step right of all others."""
    if row.name in numbers:
        return variable.position(numbers[row.name])
    positions = [variable.position(number) for number in numbers.values()]
    return max(positions) + 1.3 * (max(positions) - min(positions)) / (len(positions) - 1)


def _axis(panel: _Panel, experiment: Experiment) -> None:
    axes, variable, numbers = panel.axes, panel.variable, panel.numbers
    labels = {}
    for row in experiment.rows:
        text = f"{numbers[row.name]:,g}" if row.name in numbers else row.label
        note = variable.note(row) if row.name in numbers else ""
        labels[panel.position(row)] = text + (f"\n{note}" if note else "")
    if labels and any(row.name not in numbers for row in experiment.rows):
        labels = {x: text.replace(" to ", "\nto ") for x, text in labels.items()}
    axes.set_xticks(list(labels), list(labels.values()))
    of = variable.logarithmic
    kind = "" if not of else " (log axis)" if of == variable.column.title else f", by log({of})"
    where = "" if numbers == variable.numbers else " at this scale"
    axes.set_xlabel(in_words(variable.column.title) + where + kind)
    axes.margins(x=0.13, y=0.2)
    axes.grid(axis="y", color="0.92")


def _number(content: Any) -> float | None:
    """A cell that holds a number, also one in quotes."""
    if isinstance(content, bool):
        return None
    try:
        return float(content)
    except (TypeError, ValueError):
        return None
