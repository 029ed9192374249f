"""A grid as a heat map: one axis down, one across, in every field the mean over seeds.

A line of panels a metric; a panel for every combination of what else the rows differ in. All panels
of a metric have one range of colours, which is beside the last. Fields without a number say why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.evidence.stats import mean_interval
from analysis.figures.metrics import axis_label, is_measured, judged_metrics
from analysis.figures.style import SMALL, ours, panels
from analysis.verdicts.cells import column_spread
from repro.harness.experiments.experiment import Experiment, Metric
from repro.harness.experiments.figure import HeatmapFigure
from repro.harness.experiments.grid import text_of

COLOURS = "cividis"  # the same in grey, and for every eye
DARK = 0.55  # share of the range below which numbers are white


@dataclass(frozen=True)
class Places:
    """The values down and across, the same for every panel."""

    figure: HeatmapFigure
    down: list[str]
    across: list[str]


def draw_heatmap(experiment: Experiment, evidence: Evidence) -> Figure:
    """Every metric that is measured."""
    figure_of = experiment.figure
    assert isinstance(figure_of, HeatmapFigure), f"{experiment.id} is drawn as {figure_of.kind}"
    metrics = [m for m in judged_metrics(experiment) if is_measured(experiment, m, evidence)]
    rows = [row for row in evidence.rows(experiment) if _lies_in(row, figure_of)]
    others = [c.key for c in experiment.layout if c.key not in (figure_of.down, figure_of.across)]
    kinds = list(dict.fromkeys(_of(row, others) for row in rows))
    places = Places(
        figure_of, *(_seen(experiment, rows, key) for key in (figure_of.down, figure_of.across))
    )
    height = (0.9 + 0.45 * len(places.down)) * len(metrics)
    figure, grid = panels(len(metrics), len(kinds), height=height)
    titles = {column.key: column.title for column in experiment.layout}
    for line, metric in zip(grid, metrics, strict=True):
        values = [v for row in rows if (v := row.cell(metric.key).mean) is not None]
        norm = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)
        for axes, kind in zip(line, kinds, strict=True):
            panel = [row for row in rows if _of(row, others) == kind]
            _draw(axes, panel, places, metric, norm, evidence)
            _name(axes, places, titles)
            said = ", ".join(
                f"{titles[key]} {text}" for key, text in zip(others, kind, strict=True)
            )
            axes.set_title(said or ours(evidence))
        shown = mpl.cm.ScalarMappable(norm=norm, cmap=COLOURS)
        figure.colorbar(shown, ax=list(line), label=axis_label(metric))
    return figure


def _lies_in(row: MeasuredRow, figure: HeatmapFigure) -> bool:
    """Whether a row has a place on both axes; one written beside the grid need not."""
    return figure.down in row.row.described and figure.across in row.row.described


def _of(row: MeasuredRow, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(text_of(row.row.described.get(key, "")) for key in keys)


def _seen(experiment: Experiment, rows: Sequence[MeasuredRow], key: str) -> list[str]:
    """The values of a column, in the order of the grid's axis where it is one."""
    found = list(dict.fromkeys(_of(row, [key])[0] for row in rows))
    if experiment.grid is None or key not in experiment.grid.axes:
        return found
    ordered = [text for text in experiment.grid.texts(key) if text in found]
    return [*ordered, *(text for text in found if text not in ordered)]


def _draw(
    axes: Axes,
    rows: Sequence[MeasuredRow],
    places: Places,
    metric: Metric,
    norm: Normalize,
    evidence: Evidence,
) -> None:
    down, across, figure = places.down, places.across, places.figure
    spread = column_spread(rows[0].experiment, metric, evidence)
    means = np.full((len(down), len(across)), np.nan)
    for row in rows:
        i, j = down.index(_of(row, [figure.down])[0]), across.index(_of(row, [figure.across])[0])
        cell = row.cell(metric.key)
        if cell.mean is None:
            axes.text(j, i, str(cell.missing), ha="center", va="center", **SMALL)
            continue
        means[i, j] = cell.mean
        interval = mean_interval(list(cell.values.values()), spread=spread)
        text = f"{cell.mean:.{metric.decimals}f}"
        if not np.isnan(interval.half_width):
            text += f"\n± {interval.half_width:.{metric.decimals}f}"
        colour = "white" if norm(cell.mean) < DARK else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    axes.imshow(np.ma.masked_invalid(means), cmap=COLOURS, norm=norm, aspect="auto")


def _name(axes: Axes, places: Places, titles: dict[str, str]) -> None:
    down, across, figure = places.down, places.across, places.figure
    axes.set_yticks(range(len(down)), down)
    axes.set_xticks(range(len(across)), across)
    axes.set(ylabel=titles[figure.down], xlabel=titles[figure.across])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
