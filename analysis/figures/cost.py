"""What accuracy costs: Table 8, time and memory of multi-crop.

Machines and data differ between the paper's runs and ours, so either has panels of its own, and
only the shapes are to be compared. Both show the accuracy that the claims are judged on; of ours a
line joins means over the seeds of which all of its points have the accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.evidence.stats import OWN_SPREAD_FROM
from analysis.figures.marks import MEAN, ONE_SEED, Point, legend, same_range, whiskers
from analysis.figures.metrics import (
    accuracies,
    common_seeds,
    judged_metrics,
    seeds_named,
)
from analysis.figures.style import GREY, SMALL, Look, looks, ours, panels, say
from analysis.verdicts.cells import column_spread
from repro.harness.experiments.experiment import Experiment, Metric

ACCURACIES = {"linear": "linear top-1 (%)", "knn": "k-NN top-1 (%)"}
DOT: dict[str, Any] = {"ms": 3, "alpha": 0.6, "mew": 0}
COSTS = {"time_h": ("training time (minutes)", 60.0), "mem_G": ("peak memory (GB)", 1.0)}


def draw_cost(experiment: Experiment, evidence: Evidence) -> Figure:
    """Table 8: accuracy against time (one curve a training length) and against memory."""
    figure, grid = panels(2, 2, height=5.4)
    styles = looks(list(experiment.variants))
    rows = evidence.rows(experiment)
    for line, (of, (label, factor)) in zip(grid, COSTS.items(), strict=True):
        costs = [metric for metric in experiment.metrics if metric.measured == of]
        pairs = [Pair(experiment, c, _score(experiment, c.variant), factor) for c in costs]
        for axes, is_paper in zip(line, (True, False), strict=True):
            joined = [
                draw_joined(axes, pair, rows, styles[pair.cost.variant], evidence, is_paper)
                for pair in pairs
            ]
            _say_crops(axes, pairs[-1], joined[-1].points, rows, is_paper)
            if not any(curve.points for curve in joined):
                _say_unmeasured(axes, pairs[-1])
            axes.set_title(title(evidence, is_paper, joined))
            axes.set_xlabel(label)
            axes.set_ylabel(ACCURACIES[pairs[-1].score.measured])
            axes.margins(0.16)
    same_range(list(grid.flat), upright=True)
    handles = [handle_of(look, experiment.variants[name].title) for name, look in styles.items()]
    crops = Line2D([], [], ls="", marker="$6$", ms=6, color=GREY, label="number of local crops")
    legend(figure, [*handles, crops])
    return figure


@dataclass(frozen=True)
class Pair:
    """A cost, times `factor`, and the accuracy that it is paid for."""

    experiment: Experiment
    cost: Metric
    score: Metric
    factor: float = 1.0

    def printed(self, row: MeasuredRow) -> Point | None:
        """The paper's numbers of a row, where it has both."""
        cost, score = (row.cell(metric.key).reported for metric in (self.cost, self.score))
        return None if cost is None or score is None else (cost * self.factor, score)

    def costs(self, row: MeasuredRow) -> list[float]:
        """Of all our runs of a row: what a run costs depends on the machine, not on its seed."""
        return [value * self.factor for value in row.cell(self.cost.key).values.values()]

    def scores(self, row: MeasuredRow) -> Mapping[int, float]:
        return row.cell(self.score.key).values


@dataclass(frozen=True)
class Joined:
    """The points of a curve by row, and over which seeds ours are means."""

    points: Mapping[str, Point]
    seeds: Sequence[int] = ()


def draw_joined(
    axes: Axes,
    pair: Pair,
    rows: Iterable[MeasuredRow],
    look: Look,
    evidence: Evidence,
    is_paper: bool,
) -> Joined:
    """The points of the rows joined; ours with seeds, and with intervals of both numbers."""
    style = {"marker": look.marker, "color": look.colour, "ms": 5, "lw": 1.4}
    if is_paper:
        printed = {row.name: pair.printed(row) for row in rows}
        points = {name: point for name, point in printed.items() if point}
        _join(axes, points.values(), ls=look.dashes, **style)
        return Joined(points)
    measured = [row for row in rows if pair.costs(row) and pair.scores(row)]
    seeds = common_seeds(measured, [pair.score.key])
    spread = column_spread(pair.experiment, pair.score, evidence)
    points = {}
    for row in measured:
        costs, scores = pair.costs(row), pair.scores(row)
        values = list(scores.values())
        x, mean = float(np.mean(costs)), float(np.mean(values))
        points[row.name] = x, float(np.mean([scores[seed] for seed in seeds])) if seeds else mean
        axes.plot([x] * len(values), values, "o", color=look.colour, label=ONE_SEED, **DOT)
        if set(scores) - set(seeds):
            axes.plot([x], [mean], "_", color="black", ms=9, mew=1.4, label=MEAN)
        whiskers(axes, x, values, spread=spread)
        if len(costs) >= OWN_SPREAD_FROM:
            whiskers(axes, mean, costs, upright=False)
    _join(axes, points.values(), ls=look.dashes if seeds else "", **style)
    return Joined(points, seeds)


def title(evidence: Evidence, is_paper: bool, curves: Iterable[Joined]) -> str:
    """Whose numbers, and which seeds the lines join."""
    named = dict.fromkeys(seeds_named(curve.seeds) for curve in curves if curve.seeds)
    return "paper" if is_paper else ", ".join([ours(evidence), *named])


def handle_of(look: Look, label: str) -> Line2D:
    style = {"ls": look.dashes, "marker": look.marker, "color": look.colour}
    return Line2D([], [], ms=5, label=label, **style)


def _score(experiment: Experiment, variant: str) -> Metric:
    """The accuracy of a variant that claims are judged on."""
    return accuracies([m for m in judged_metrics(experiment) if m.variant == variant])[0]


def _join(axes: Axes, points: Iterable[Point], **style: Any) -> None:
    if line := list(points):
        axes.plot(*zip(*line, strict=True), **style)


def _say_unmeasured(axes: Axes, pair: Pair) -> None:
    text = f"{ACCURACIES[pair.score.measured]}:\nnot measured at this scale"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", **SMALL)


def _say_crops(
    axes: Axes,
    pair: Pair,
    points: Mapping[str, Point],
    rows: Iterable[MeasuredRow],
    is_paper: bool,
) -> None:
    """The number of local crops beside the points of a curve."""
    for row in rows:
        if row.name in points:
            config = (row.paper_config if is_paper else row.config)(pair.cost.variant)
            number = str(config.views.local_number)
            say(axes, number, points[row.name], (7, -6), weight="bold")
