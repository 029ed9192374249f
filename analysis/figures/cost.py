"""What accuracy costs: Table 8, time and memory of multi-crop.

Machines and data differ between the paper's runs and ours, so either has panels of its own, and
only the shapes are to be compared. Where the paper prints a linear probe and not all of our runs
have one, k-NN stands in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.figures.style import GREY, Look, looks, ours, panels, say, whiskers
from repro.harness.experiments.experiment import Experiment, Metric

Points = Mapping[str, Sequence[tuple[float, float]]]  # by row: (cost, accuracy), a seed each
COSTS = {"time_h": "training time", "mem_G": "peak memory"}
ACCURACIES = {"linear": "linear top-1", "knn": "k-NN top-1"}
HOURS_FROM = 0.5  # below, times are given in minutes


def draw_cost(experiment: Experiment, evidence: Evidence) -> Figure:
    """Table 8: accuracy against time (one curve a training length) and against memory."""
    figure, grid = panels(2, 2, height=5.4)
    styles = looks(list(experiment.variants))
    rows = {row.name: row for row in evidence.rows(experiment)}
    for line, of in enumerate(COSTS):
        costs = [metric for metric in experiment.metrics if metric.measured == of]
        for axes, is_paper in zip(grid[line], (True, False), strict=True):
            scores = {
                c.variant: _accuracy(experiment, c.variant, rows.values(), is_paper) for c in costs
            }
            points = {
                c.variant: points_of(rows.values(), c, scores[c.variant], is_paper) for c in costs
            }
            factor, unit = _unit(costs[0], points.values())
            for variant, own in points.items():
                draw_joined(axes, own, styles[variant], factor)
                for name, pairs in own.items() if variant == costs[-1].variant else ():
                    config_of = rows[name].paper_config if is_paper else rows[name].config
                    say(
                        axes,
                        str(config_of(variant).views.local_number),
                        mean_of(pairs, factor),
                        (7, -6),
                        weight="bold",
                    )
            axes.set_xlabel(f"{COSTS[of]} ({unit})")
            axes.set_ylabel(f"{ACCURACIES[scores[costs[0].variant].measured]} (%)")
            axes.margins(0.16)
    grid[0, 0].set_title("paper")
    grid[0, 1].set_title(ours(evidence))
    handles = [handle_of(look, experiment.variants[name].title) for name, look in styles.items()]
    crops = Line2D([], [], ls="", marker="$6$", ms=6, color=GREY, label="number of local crops")
    figure.legend(handles=[*handles, crops, *marks()], loc="outside lower center", ncols=5)
    return figure


def points_of(rows: Iterable[MeasuredRow], cost: Metric, score: Metric, is_paper: bool) -> Points:
    points = {}
    for row in rows:
        a, b = row.cell(cost.key), row.cell(score.key)
        if is_paper:
            pairs = [] if a.reported is None or b.reported is None else [(a.reported, b.reported)]
        else:
            pairs = [(a.values[s], b.values[s]) for s in a.values if s in b.values]
        if pairs:
            points[row.name] = pairs
    return points


def mean_of(pairs: Sequence[tuple[float, float]], factor: float = 1.0) -> tuple[float, float]:
    """The point of the means, its cost times `factor`."""
    x, y = np.mean(pairs, axis=0)
    return float(x) * factor, float(y)


def draw_joined(axes: Axes, points: Points, look: Look, factor: float = 1.0) -> None:
    """The means of the rows joined, their seeds as small dots, intervals of the accuracy."""
    if not points:
        return
    means = [mean_of(pairs, factor) for pairs in points.values()]
    style = {"ls": look.dashes, "marker": look.marker, "color": look.colour}
    axes.plot(*zip(*means, strict=True), lw=1.4, ms=5, **style)
    for pairs, mean in zip(points.values(), means, strict=True):
        if len(pairs) > 1:
            x, y = np.array(pairs).T
            axes.plot(x * factor, y, "o", color=look.colour, ms=3, alpha=0.6, mew=0)
            whiskers(axes, mean[0], list(y))


def _accuracy(
    experiment: Experiment, variant: str, rows: Iterable[MeasuredRow], is_paper: bool
) -> Metric:
    """The accuracy of a variant with the most numbers; the first of equals."""
    choices = [m for m in experiment.metrics if m.variant == variant and m.unit == "%"]

    def numbers(metric: Metric) -> int:
        cells = [row.cell(metric.key) for row in rows]
        return sum(c.reported is not None if is_paper else len(c.values) for c in cells)

    return max(choices, key=numbers)


def _unit(cost: Metric, curves: Iterable[Points]) -> tuple[float, str]:
    """The factor and the unit in which costs are shown."""
    largest = max(
        (x for points in curves for pairs in points.values() for x, _ in pairs), default=0
    )
    if cost.unit == "h" and largest < HOURS_FROM:
        return 60.0, "min"
    return 1.0, {"G": "GB"}.get(cost.unit, cost.unit)


def handle_of(look: Look, label: str) -> Line2D:
    style = {"ls": look.dashes, "marker": look.marker, "color": look.colour}
    return Line2D([], [], ms=5, label=label, **style)


def marks() -> list[Line2D]:
    return [
        Line2D([], [], ls="", marker="o", ms=3, color=GREY, label="one seed"),
        Line2D([], [], ls="", marker="|", ms=11, color="black", label="95 % interval of the mean"),
    ]
