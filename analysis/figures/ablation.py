"""Ablations over one variable (App. C to F, Table 9) as curves: the paper's, and ours beside it.

The experiment file says what is varied: the column with the paper's numbers, the config key (K,
batch size, epochs) that holds what this scale uses for them, and the columns of yes and no (the
bottleneck of App. C) that make a curve each.

Departures: accuracies have an axis of their own in either panel, since those of another data set
are not comparable; a row that is no number (a temperature that warms up) or that says more than
its number (half of the epochs) stands apart from the curve. Accuracies at chance are written at the
foot of the panel instead of stretching it down to zero.
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
from analysis.figures.style import (
    GREY,
    OUR_COLOUR,
    PAPER_COLOUR,
    SMALL,
    axis_label,
    looks,
    ours,
    panels,
    say,
    whiskers,
)
from analysis.verdicts.outputs import at_chance
from repro.harness.experiments.experiment import Column, Experiment, Metric, Row
from repro.harness.experiments.figure import AblationFigure

FLOOR: dict[str, Any] = {"color": GREY, "ls": (0, (1, 2)), "lw": 1.2}
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
    families = dict.fromkeys(variable.family(row) for row in experiment.rows)
    styles = looks(list(families))
    for (left, right), metric in zip(grid, metrics, strict=True):
        for family, look in styles.items():
            rows = [row for row in experiment.rows if variable.family(row) == family]
            mark = look.marker if len(styles) > 1 else "D"
            how = {"ls": look.dashes, "marker": mark}
            reported = {r.name: r.reported[metric.key] for r in rows if metric.key in r.reported}
            colour = look.colour if len(styles) > 1 else PAPER_COLOUR
            _curve(left, variable, rows, variable.numbers, reported, metric, color=colour, **how)
            colour = look.colour if len(styles) > 1 else OUR_COLOUR
            mark = look.marker if len(styles) > 1 else "o"
            how = {"ls": look.dashes, "marker": mark, "color": colour}
            measured = [evidence.of(experiment, row) for row in rows]
            measured = [row for row in measured if row.cell(metric.key).values]
            means = {
                row.name: float(np.mean(list(row.cell(metric.key).values.values())))
                for row in measured
            }
            positions = _curve(right, variable, rows, here, means, metric, **how)
            for row in measured:
                _seeds(right, positions[row.name], row, metric, colour)
        for axes, numbers in ((left, variable.numbers), (right, here)):
            _axis(axes, variable, experiment, numbers)
        left.set_ylabel(axis_label(metric))
        if metric.measured == "knn":
            _floor(right, experiment, evidence)
    grid[0, 0].set_title("paper")
    grid[0, 1].set_title(ours(evidence))
    handles = _legend(styles)
    if any(metric.measured == "knn" for metric in metrics):
        handles.append(Line2D([], [], **FLOOR, label="random initialisation"))
    columns = 4 if len(handles) <= 4 else 3
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6)
    return figure


def _metrics(experiment: Experiment, evidence: Evidence) -> list[Metric]:
    """Those that the paper prints with different numbers, accuracies first."""
    varied = [
        metric
        for metric in experiment.metrics
        if len({row.reported.get(metric.key) for row in experiment.rows}) > 1
        and any(row.cell(metric.key).values for row in evidence.rows(experiment))
    ]
    return sorted(varied or experiment.metrics[:1], key=lambda metric: metric.unit != "%")


def _curve(
    axes: Axes,
    variable: Variable,
    rows: Sequence[Row],
    numbers: Mapping[str, float],
    values: Mapping[str, float],
    metric: Metric,
    **how: Any,
) -> dict[str, float]:
    """Joined points, those apart, and the numbers beside them; returns where the rows stand."""
    positions = {r.name: _position(variable, r, numbers) for r in rows}
    low = {name: value for name, value in values.items() if metric.unit == "%" and at_chance(value)}
    shown = [row for row in rows if row.name in values and row.name not in low]
    joined = [row for row in shown if row.name in variable.numbers and not variable.note(row)]
    joined.sort(key=lambda row: positions[row.name])
    line = [(positions[row.name], values[row.name]) for row in joined]
    if line:
        axes.plot(*zip(*line, strict=True), ms=5, lw=1.4, **how)
    for row in (row for row in shown if row not in joined):
        apart = ([positions[row.name]], [values[row.name]])
        axes.plot(*apart, ms=5.5, mfc="white", mew=1.3, **how)
    free = {point: _free_side(line, i) for i, point in enumerate(line)}
    for row in shown:
        point = (positions[row.name], values[row.name])
        offset, side = free.get(point, ((4.0, 8.0), "left"))
        colour = how["color"] if variable.families else GREY
        say(axes, f"{point[1]:,.{metric.decimals}f}", point, offset, side, color=colour)
    foot = axes.get_xaxis_transform()
    for name, value in low.items():
        axes.plot([positions[name]], [0.06], "x", color=how["color"], ms=7, mew=1.8, transform=foot)
        text = f"{value:.{metric.decimals}f}: chance"
        axes.annotate(
            text, (positions[name], 0.06), xycoords=foot, xytext=(0, 9),
            textcoords="offset points", ha="center", va="center", **SMALL,
        )  # fmt: skip
    return positions


def _free_side(line: Sequence[tuple[float, float]], i: int) -> tuple[tuple[float, float], str]:
    """Where a number beside point i stands clear of the curve: offset in points and alignment.

    Below a point that lies under the middle of its neighbours, above others; on the side from which
    the curve does not come.
    """
    near = [y for _, y in (*line[max(0, i - 1) : i], *line[i + 1 : i + 2])]
    value = line[i][1]
    below = bool(near) and value < sum(near) / len(near)
    before, after = line[max(0, i - 1)][1], line[min(len(line) - 1, i + 1)][1]
    right = (after > before) == below
    return (4.0 if right else -4.0, -8.0 if below else 8.0), "left" if right else "right"


def _seeds(axes: Axes, x: float, row: MeasuredRow, metric: Metric, colour: Any) -> None:
    """Every seed as a dot, a cross where the collapse sentinel reported it, and the interval."""
    runs, values = row.runs(metric.variant), row.cell(metric.key).values
    for seed, value in values.items():
        healthy = runs[seed].sentinel.healthy
        mark, size = ("o", 3) if healthy else ("x", 5.5)
        axes.plot([x], [value], mark, color=colour, ms=size, alpha=0.6, mew=0 if healthy else 1.4)
    whiskers(axes, x, list(values.values()))


def _position(variable: Variable, row: Row, numbers: Mapping[str, float]) -> float:
    """Where a row stands; one that has no number, one step right of all others."""
    if row.name in numbers:
        return variable.position(numbers[row.name])
    positions = [variable.position(number) for number in numbers.values()]
    return max(positions) + 1.3 * (max(positions) - min(positions)) / (len(positions) - 1)


def _axis(
    axes: Axes, variable: Variable, experiment: Experiment, numbers: Mapping[str, float]
) -> None:
    labels = {}
    for row in experiment.rows:
        text = f"{numbers[row.name]:,g}" if row.name in numbers else row.label
        note = variable.note(row) if row.name in numbers else ""
        labels[_position(variable, row, numbers)] = text + (f"\n{note}" if note else "")
    if labels and any(row.name not in numbers for row in experiment.rows):
        labels = {x: text.replace(" to ", "\nto ") for x, text in labels.items()}
    axes.set_xticks(list(labels), list(labels.values()))
    of = variable.logarithmic
    kind = "" if not of else " (log axis)" if of == variable.column.title else f", by log({of})"
    where = "" if numbers == variable.numbers else " at this scale"
    axes.set_xlabel(variable.column.title + where + kind)
    axes.margins(x=0.13, y=0.2)
    axes.grid(axis="y", color="0.92")


def _floor(axes: Axes, experiment: Experiment, evidence: Evidence) -> None:
    """k-NN of the networks before training, over all runs of the table."""
    random = [accuracy for row in evidence.rows(experiment) for accuracy in row.random_knn]
    if random:
        axes.axhline(float(np.mean(random)), **FLOOR, zorder=0)


def _legend(styles: Mapping[str, Any]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=look.colour, ls=look.dashes, marker=look.marker, ms=5, label=family)
        for family, look in styles.items()
        if family
    ]
    handles += [
        Line2D([], [], ls="", marker="o", ms=3, color=GREY, label="one seed"),
        Line2D([], [], ls="", marker="x", ms=5.5, mew=1.4, color=GREY, label="collapsed"),
        Line2D([], [], ls="", marker="|", ms=11, color="black", label="95 % interval of the mean"),
    ]
    return handles


def _number(content: Any) -> float | None:
    """A cell that holds a number, also one in quotes."""
    if isinstance(content, bool):
        return None
    try:
        return float(content)
    except (TypeError, ValueError):
        return None
