"""Figure 6 right, and every table that is no curve: one line a row, the paper's number and ours.

Each metric that claims are judged on has a pair of panels, the paper's and ours, side by side and
with one range, so that a point is as long in both: the data differ between scales, and whether
everything of ours lies high above chance is seen, too. What is not measured is named below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.figures.marks import (
    DOTTED,
    FLOOR,
    MEAN,
    draw_chance,
    draw_seeds,
    from_zero,
    legend,
    random_floor,
    same_range,
    whiskers,
)
from analysis.figures.metrics import (
    ACCURACY,
    KNN,
    accuracies,
    axis_label,
    chance,
    chance_of_the_paper,
    in_words,
    is_measured,
    is_printed,
    judged_metrics,
)
from analysis.figures.style import OUR_COLOUR, PAPER_COLOUR, SMALL, ours, panels, say
from analysis.verdicts.cells import column_spread
from repro.harness.experiments.experiment import Experiment, Metric
from repro.harness.experiments.missing import Reason

PANELS = 4  # of a line at most: two metrics, the paper's numbers and ours


@dataclass(frozen=True)
class Panel:
    """One metric, as the paper prints it or as we measured it."""

    metric: Metric
    is_paper: bool


def draw_rows(experiment: Experiment, evidence: Evidence) -> Figure:
    """The metrics that claims are judged on, as far as they are measured."""
    judged = accuracies(judged_metrics(experiment))
    measured = [metric for metric in judged if is_measured(experiment, metric, evidence)]
    lines = _lines(experiment, measured or judged[:1])
    height = 0.45 + (0.75 + 0.25 * len(experiment.rows)) * len(lines)
    across = max(map(len, lines))
    figure, grid = panels(len(lines), across, height=height)
    for line, own in zip(grid, lines, strict=True):
        by_panel = dict(zip(own, line, strict=False))
        for panel, axes in by_panel.items():
            _draw(axes, panel, experiment, evidence)
            _name_rows(axes, experiment, first=axes is line[0])
        for metric in dict.fromkeys(panel.metric for panel in own):
            pair = {p: axes for p, axes in by_panel.items() if p.metric == metric}
            _compare(metric, pair, evidence.rows(experiment))
        for axes in line[len(own) :]:
            axes.remove()
    missing = [in_words(metric.title) for metric in judged if metric not in measured]
    title = f"not measured at this scale: {', '.join(missing)}" if missing and measured else None
    legend(figure, title=title, title_fontsize=SMALL["fontsize"])
    return figure


def _lines(experiment: Experiment, metrics: Sequence[Metric]) -> list[list[Panel]]:
    """The panels of every line; those of one metric are not parted."""
    lines: list[list[Panel]] = [[]]
    for metric in metrics:
        both = [True, False] if is_printed(experiment, metric) else [False]
        if len(lines[-1]) + len(both) > PANELS:
            lines.append([])
        lines[-1] += [Panel(metric, is_paper) for is_paper in both]
    return lines


def _draw(axes: Axes, panel: Panel, experiment: Experiment, evidence: Evidence) -> None:
    metric, rows = panel.metric, evidence.rows(experiment)
    spread = column_spread(experiment, metric, evidence)
    for line, row in enumerate(rows):
        cell = row.cell(metric.key)
        if not panel.is_paper:
            _draw_ours(axes, line, row, metric)
            if cell.values:
                whiskers(axes, line, list(cell.values.values()), upright=False, spread=spread)
        elif cell.reported is not None:
            axes.plot([cell.reported], [line], "D", color=PAPER_COLOUR, ms=4.5)
            say(
                axes,
                f"{cell.reported:.{metric.decimals}f}",
                (cell.reported, line),
                (0, 8),
                "center",
            )
    axes.set_title("paper" if panel.is_paper else ours(evidence))
    axes.set_xlabel(axis_label(metric), fontsize=8)
    axes.grid(axis="y", color="0.92")
    axes.margins(x=0.13)


def _name_rows(axes: Axes, experiment: Experiment, first: bool) -> None:
    labels = [row.label if first else "" for row in experiment.rows]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.75)


def _compare(metric: Metric, pair: dict[Panel, Axes], rows: Sequence[MeasuredRow]) -> None:
    """One range for a metric, then what guessing gets."""
    if metric.unit == ACCURACY and not metric.difference:
        same_range(list(pair.values()), upright=False)
    elif not metric.difference:
        for axes in pair.values():
            from_zero(axes, upright=False)
    for panel, axes in pair.items():
        guessed = chance_of_the_paper(metric) if panel.is_paper else chance(metric, rows)
        draw_chance(axes, guessed, upright=False)


def _draw_ours(axes: Axes, line: int, row: MeasuredRow, metric: Metric) -> None:
    """Seeds, mean and the floor of one row; why there are none where there are none."""
    cell = row.cell(metric.key)
    if not cell.values:
        box = {"facecolor": "white", "lw": 0, "pad": 1.5}
        assert cell.missing, f"{cell.address} has neither values nor a reason"
        why = Reason.REPORTED_ONLY if row.row.reported_only else str(cell.missing)
        why = why.removesuffix(" by these runs")
        where = axes.get_yaxis_transform()
        axes.text(0.03, line, why, transform=where, va="center", **SMALL, bbox=box)
        return
    draw_seeds(axes, line, row, metric, upright=False, color=OUR_COLOUR)
    mean = float(np.mean(list(cell.values.values())))
    axes.plot([mean], [line], "|", color="black", ms=8, mew=1.6, label=MEAN)
    if metric.measured == KNN:
        floor = random_floor(row, metric.variant, cell.values)
        if floor is not None:
            axes.plot([floor, floor], [line - 0.5, line + 0.5], **DOTTED, label=FLOOR)
    say(axes, f"{mean:.{metric.decimals}f}", (mean, line), (0, 8), "center")
