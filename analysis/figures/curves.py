"""k-NN during training: Figure 6 left, and the unnumbered figures of App. D and E.

The paper's curves and ours stand in panels of their own, since the data differ, with one range;
time is the share of the whole training. Lines of several rows are means over the seeds that all of
them have; of a row of which a run ended early every seed is a line, with a bar where that stopped.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.evidence.evidence import Evidence
from analysis.evidence.frames import curves, reported_curves
from analysis.evidence.rows import MeasuredRow
from analysis.figures.marks import same_range
from analysis.figures.metrics import seeds_named
from analysis.figures.style import (
    SMALL,
    STOPPED,
    Look,
    curves_of_rows,
    lines,
    looks,
    mark_stops,
    ours,
    panels,
    reading_band,
    say,
    seeds_of,
    share_of_training,
)
from repro.config.schema import GLOBAL_VIEWS
from repro.harness.experiments.experiment import Experiment

NETWORKS = {"knn": "teacher", "student_knn": "student"}


def draw_curves(experiment: Experiment, evidence: Evidence) -> Figure:
    """One line a network (teacher, student), or a row where only the teacher is drawn."""
    figure, grid = panels(1, 2, height=2.9)
    left, right = grid[0]
    paper, measured = reported_curves(experiment), curves(experiment, evidence)
    hue = "metric" if len(experiment.curves) > 1 else "row"
    rows = [row for row in evidence.rows(experiment) if row.runs()]
    labels = NETWORKS if hue == "metric" else {row.name: row.label for row in experiment.rows}
    our_labels = labels | {row.name: crops_of(row) for row in rows if "crops" in row.row.described}
    seeds = sorted(set.intersection(*(set(row.runs()) for row in rows))) if rows else []
    measured = measured[measured["seed"].isin(seeds)] if seeds else measured
    styles = looks(list(labels))
    error = experiment.metric(experiment.curves[0]).reading_error
    lines(left, paper, hue, styles, lw=1.3)
    for name, own in paper.groupby(hue, sort=False):
        look = styles[str(name)]
        left.plot(own["fraction"], own["value"], look.marker, color=look.colour, ms=3.5)
    reading_band(left, paper, hue, styles, error)
    parted = [row.name for row in rows if row.stopped()]
    curves_of_rows(right, measured, hue, styles, parted)
    mark_stops(right, measured, hue, styles, rows)
    for name, own in measured[~measured["row"].isin(parted)].groupby(hue, sort=False):
        mean, look = own.groupby("fraction")["value"].mean(), styles[str(name)]
        right.plot(mean.index, mean, look.marker, color=look.colour, ms=4)
    for axes in (left, right):
        share_of_training(axes)
        axes.margins(y=0.08)
    same_range((left, right), upright=True)
    for axes, points, names in ((left, paper, labels), (right, measured, our_labels)):
        _name_lines(axes, points, hue, names, styles)
    left.set(title=f"paper, read off to ± {error:g} points", ylabel="k-NN top-1 (%)")
    counts = list(measured.groupby(hue)["seed"].nunique())
    spread = seeds_named(seeds) if max(counts) == 1 else f"mean and range of {seeds_of(counts)}"
    if parted:
        right.text(0.97, 0.05, f"|: {STOPPED}", transform=right.transAxes, ha="right", **SMALL)
    right.set(title=f"{ours(evidence)}, {spread}", ylabel="")
    return figure


def crops_of(row: MeasuredRow) -> str:
    """A row that the paper names by its crops, by those of this scale."""
    views = row.config().views
    local = f" + {views.local_number} x {views.local_size}" if views.local_number else ""
    return f"{GLOBAL_VIEWS} x {views.global_size}{local}"


def _name_lines(
    axes: Axes, points: pd.DataFrame, hue: str, labels: dict[str, str], styles: dict[str, Look]
) -> None:
    """The name of every line at its end, right of the panel, and clear of one another."""
    ends = {
        str(name): float(own.groupby("fraction")["value"].mean().iloc[-1])
        for name, own in points.groupby(hue, sort=False)
    }
    low, high = axes.get_ylim()
    for name, height in apart(ends, 0.08 * (high - low)).items():
        how = {"color": styles[name].colour, "weight": "bold", "in_layout": True}
        say(axes, labels[name], (1.0, height), (5, 0), "left", **how)


def apart(heights: dict[str, float], room: float) -> dict[str, float]:
    """The same heights, moved as little as it takes to be `room` from one another, in order."""
    names = sorted(heights, key=lambda name: heights[name])
    moved = [heights[name] for name in names]
    for _ in range(50):
        for i in range(len(moved) - 1):
            short = room - (moved[i + 1] - moved[i])
            if short > 0:
                moved[i] -= short / 2
                moved[i + 1] += short / 2
    return dict(zip(names, moved, strict=True))
