"""Figure 6 right, and every table that is no curve: one line a row, the paper's number and ours.

The paper's numbers and ours stand in panels of their own, since absolute accuracies of another data
set are not comparable. A table with variants (App. E: two crops, multi-crop) has a pair of panels
for each of them.
"""

from __future__ import annotations

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
    ours,
    panels,
    say,
    whiskers,
)
from repro.harness.experiments.experiment import Experiment, Metric
from repro.harness.experiments.missing import Reason


def draw_rows(experiment: Experiment, evidence: Evidence) -> Figure:
    """k-NN in all its variants where it was measured, else the first metric that was."""
    metrics = _drawn_metrics(experiment, evidence)
    lines = len(experiment.rows)
    figure, grid = panels(len(metrics), 2, height=0.45 + (0.75 + 0.25 * lines) * len(metrics))
    for (left, right), metric in zip(grid, metrics, strict=True):
        _draw_metric(left, right, experiment, metric, evidence)
    grid[0, 0].set_title("paper")
    grid[0, 1].set_title(ours(evidence))
    handles = [
        Line2D([], [], ls="", marker="o", ms=4, alpha=0.6, color=OUR_COLOUR, label="one seed"),
        Line2D([], [], ls="", marker="x", ms=5, mew=1.4, color=OUR_COLOUR, label="collapsed"),
        Line2D([], [], ls="", marker="|", ms=9, mew=1.6, color="black", label="mean"),
        Line2D([], [], color="black", lw=1.0, label="95 % interval of the mean"),
    ]
    if any(metric.measured == "knn" for metric in metrics):
        handles.append(Line2D([], [], color=GREY, ls=(0, (1, 2)), label="random initialisation"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def _drawn_metrics(experiment: Experiment, evidence: Evidence) -> list[Metric]:
    measured = [
        metric
        for metric in experiment.metrics
        if any(row.cell(metric.key).values for row in evidence.rows(experiment))
    ]
    knn = [metric for metric in measured if metric.measured == "knn"]
    return knn or [*measured, *experiment.metrics][:1]


def _printed_metric(experiment: Experiment, metric: Metric) -> Metric:
    """The metric itself, or what the paper prints in its place (Table 14: linear, no k-NN)."""
    alike = [m for m in experiment.metrics if (m.variant, m.unit) == (metric.variant, metric.unit)]
    printed = [m for m in (metric, *alike) if any(m.key in row.reported for row in experiment.rows)]
    return (printed or [metric])[0]


def _draw_metric(
    left: Axes, right: Axes, experiment: Experiment, metric: Metric, evidence: Evidence
) -> None:
    printed, rows = _printed_metric(experiment, metric), evidence.rows(experiment)
    for line, row in enumerate(rows):
        if (reported := row.row.reported.get(printed.key)) is not None:
            left.plot([reported], [line], "D", color=PAPER_COLOUR, ms=4.5)
            say(left, f"{reported:.{printed.decimals}f}", (reported, line), (6, 0), path_effects=())
        _draw_seeds(right, line, row, metric)
    if metric.measured == "knn":
        random = [accuracy for row in rows for accuracy in row.random_knn]
        if random:
            floor = float(np.mean(random))
            right.axvline(floor, color=GREY, lw=1.2, ls=(0, (1, 2)), zorder=0)
    left.set_yticks(range(len(rows)), [row.row.label for row in rows])
    right.sharey(left)
    left.set_ylim(len(rows) - 0.5, -0.5)
    right.tick_params(labelleft=False)
    for axes, shown in ((left, printed), (right, metric)):
        axes.margins(x=0.16)
        axes.set_xlabel(axis_label(shown))
        axes.grid(axis="y", color="0.92")


def _draw_seeds(axes: Axes, line: int, row: MeasuredRow, metric: Metric) -> None:
    """Seeds, mean and interval of one row; why there are none where there are none."""
    measured = row.cell(metric.key)
    seeds = list(measured.values.values())
    if not seeds:
        box = {"facecolor": "white", "lw": 0, "pad": 1.5}
        where = axes.get_yaxis_transform()
        assert measured.missing, f"{measured.address} has neither values nor a reason"
        why = Reason.REPORTED_ONLY if row.row.reported_only else str(measured.missing)
        axes.text(0.03, line, why, transform=where, va="center", **SMALL, bbox=box)
        return
    runs = row.runs(metric.variant)
    for seed, value in measured.values.items():
        healthy = runs[seed].sentinel.healthy
        mark, size, edge = ("o", 4.0, 0.0) if healthy else ("x", 5.5, 1.4)
        axes.plot([value], [line], mark, color=OUR_COLOUR, alpha=0.6, ms=size, mew=edge)
    mean = float(np.mean(seeds))
    axes.plot([mean], [line], "|", color="black", ms=9, mew=1.6)
    whiskers(axes, line, seeds, upright=False)
    say(
        axes,
        f"{mean:.{metric.decimals}f}",
        (max(seeds), line),
        (7, 0),
        va="bottom",
        path_effects=(),
    )
