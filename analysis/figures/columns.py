"""A table whose columns are alike (Figure 4: random, supervised, DINO): one mark a column and row.

The paper's numbers and ours stand in panels of their own, since the data differ between scales,
with one range.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.evidence import Evidence
from analysis.figures.marks import legend, same_range, whiskers
from analysis.figures.metrics import is_measured
from analysis.figures.style import GREY, looks, ours, panels, say
from analysis.verdicts.cells import column_spread
from repro.harness.evaluation.names import kind_of
from repro.harness.experiments.experiment import Experiment

SPREAD = 0.62  # of a line's height, over which the columns are spread


def draw_columns(experiment: Experiment, evidence: Evidence) -> Figure:
    """Every seed as a small mark, the mean as a large one; columns differ in colour and shape."""
    rows, columns = evidence.rows(experiment), experiment.metrics
    styles = looks([metric.key for metric in columns])
    figure, grid = panels(1, 2, height=1.3 + 0.8 * len(rows))
    left, right = grid[0]
    for line, row in enumerate(rows):
        for number, metric in enumerate(columns):
            height = line + SPREAD * ((number + 0.5) / len(columns) - 0.5)
            look = styles[metric.key]
            cell = row.cell(metric.key)
            if cell.reported is not None:
                left.plot([cell.reported], [height], look.marker, color=look.colour, ms=6)
                say(left, f"{cell.reported:.{metric.decimals}f}", (cell.reported, height), (7, 0))
            seeds = list(cell.values.values())
            if seeds:
                mean = float(np.mean(seeds))
                small = {"ms": 3.5, "alpha": 0.5, "mew": 0}
                right.plot(seeds, [height] * len(seeds), look.marker, color=look.colour, **small)
                right.plot([mean], [height], look.marker, color=look.colour, ms=6.5, mec="black")
                spread = column_spread(experiment, metric, evidence)
                whiskers(right, height, seeds, upright=False, spread=spread)
                say(right, f"{mean:.{metric.decimals}f}", (mean, height), (0, 8), "center")
    left.set_yticks(range(len(rows)), [row.row.label for row in rows])
    right.set_yticks(range(len(rows)), [""] * len(rows))
    left.set_title("paper")
    right.set_title(ours(evidence))
    for axes in (left, right):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"{kind_of(columns[0].measured)} ({columns[0].unit})")
        axes.grid(axis="x", color="0.92")
        axes.margins(x=0.14)
        for line in range(1, len(rows)):
            axes.axhline(line - 0.5, color="0.85", lw=0.7)
    handles = [
        Line2D([], [], ls="", marker=styles[m.key].marker, ms=6, color=styles[m.key].colour,
               label=m.title)
        for m in columns
    ]  # fmt: skip
    if any(is_measured(experiment, metric, evidence) for metric in columns):
        handles.append(
            Line2D([], [], ls="", marker="o", ms=3.5, color=GREY, label="small: one seed")
        )
    same_range((left, right), upright=False)
    legend(figure, handles, ncols=3)
    return figure
