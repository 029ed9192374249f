"""Reported against measured: every accuracy that the paper prints and our runs have.

On the diagonal a number of ours is the paper's. At small scales the data are others, so that
distance from it is no finding; what is judged there are orders and directions (the scorecard).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.figures.style import GREY, SMALL, looks, panels, whiskers
from repro.harness.evaluation.names import kind_of
from repro.harness.evaluation.protocol import Kind
from repro.harness.experiments.experiment import Experiment


@dataclass(frozen=True)
class Point:
    """One cell with both numbers; `runs` tells cells that several tables share."""

    kind: Kind
    reported: float
    values: tuple[float, ...]
    runs: tuple[str, ...]


def parity_points(experiments: Iterable[Experiment], evidence: Evidence) -> list[Point]:
    """Every cell in percent with a reported and a measured number, each once."""
    points: dict[Point, None] = {}
    for experiment in experiments:
        for row in evidence.rows(experiment):
            for metric in experiment.metrics:
                if metric.unit != "%" or metric.difference or metric.key not in row.row.reported:
                    continue
                cell = row.cell(metric.key)
                if cell.reported is not None and cell.values:
                    own = tuple(cell.values.values()), tuple(cell.runs.values())
                    points[Point(kind_of(row.source(metric.key)), cell.reported, *own)] = None
    return list(points)


def draw_parity(points: Sequence[Point], scale: str) -> Figure:
    """Both axes from 0 to 100 %, one colour and marker a kind of metric."""
    figure, grid = panels(1, 1, height=5.0)
    axes = grid[0, 0]
    axes.plot([0, 100], [0, 100], color=GREY, lw=1.0, zorder=0)
    axes.annotate(
        "measured = reported", (50, 50), xytext=(4, -6), textcoords="offset points",
        rotation=45, rotation_mode="anchor", ha="center", va="center", **SMALL,
    )  # fmt: skip
    styles = looks(list(Kind))
    handles = []
    for kind in Kind:
        own = [point for point in points if point.kind == kind]
        look = styles[kind]
        for point in own:
            mean = float(np.mean(point.values))
            whiskers(axes, point.reported, point.values, color=look.colour, lw=0.8, alpha=0.5)
            how = {"color": look.colour, "mec": "black", "mew": 0.4, "alpha": 0.85}
            axes.plot([point.reported], [mean], look.marker, ms=5.5, **how)
        if own:
            text = f"{kind.value} ({len(own)})"
            handles.append(
                Line2D([], [], ls="", marker=look.marker, color=look.colour, mec="black", mew=0.4,
                       ms=5.5, label=text)
            )  # fmt: skip
    axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal", anchor="W")
    axes.set_xlabel("reported by the paper (%)")
    axes.set_ylabel(f"measured at {scale} scale (%), mean and 95 % interval")
    axes.grid(color="0.93")
    if scale != PAPER:
        text = (
            f"{scale} scale trains on other data:\nabsolute values are not judged here,\n"
            "only orders and directions are"
        )
        axes.text(0.98, 0.03, text, transform=axes.transAxes, ha="right", va="bottom", **SMALL)
    figure.legend(handles=handles, loc="outside right center", title=f"{len(points)} cells")
    return figure
