"""A table whose columns are alike (Figure 4: random, supervised, DINO): one mark a column and row.

The paper's numbers and ours stand in panels of their own, since the data differ between scales.
"""

from __future__ import annotations

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.frame import Evidence, cell
from repro.harness.spec import Experiment

MARKS = ("o", "s", "D", "^", "v", "P", "X")
SPREAD = 0.5  # of a line's height, over which the columns are spread


def draw_columns(experiment: Experiment, evidence: Evidence) -> Figure:
    """Every seed as a mark, the mean as a line; columns are told apart by colour and shape."""
    rows, columns = experiment.rows, experiment.metrics
    colours = sns.color_palette("colorblind", len(columns))
    figure = Figure(figsize=(7.2, 1.3 + 0.62 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, row in enumerate(rows):
        for number, (metric, colour) in enumerate(zip(columns, colours, strict=True)):
            height = place + SPREAD * ((number + 0.5) / len(columns) - 0.5)
            c, mark = cell(experiment, row, metric.key, evidence), MARKS[number % len(MARKS)]
            if c.reported is not None:
                left.plot([c.reported], [height], mark, color=colour, ms=5)
            seeds = list(c.values.values())
            if seeds:
                mean = sum(seeds) / len(seeds)
                right.plot(seeds, [height] * len(seeds), mark, color=colour, ms=5, alpha=0.5, mew=0)
                right.plot([mean], [height], "|", color="black", ms=10, mew=1.4)
    left.set_yticks(range(len(rows)), [row.label for row in rows])
    right.set_yticks(range(len(rows)), [""] * len(rows))
    titles = ((left, "paper"), (right, f"ours, {evidence.scale} scale"))
    for axes, title in titles:
        axes.set(title=title, ylim=(len(rows) - 0.5, -0.5))
        axes.set_xlabel(f"{experiment.title} ({columns[0].unit})", fontsize=8)
        axes.grid(axis="y", color="0.92")
        axes.margins(x=0.12)
        sns.despine(ax=axes)
    handles = [
        Line2D([], [], ls="", marker=MARKS[n % len(MARKS)], color=colours[n], label=metric.title)
        for n, metric in enumerate(columns)
    ]
    handles.append(Line2D([], [], ls="", marker="|", color="black", label="mean"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure
