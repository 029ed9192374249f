"""What stands for a row in every picture: its seeds, its mean, the interval, what to compare with.

Whatever is drawn with a label stands in the legend, and nothing else does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.rows import MeasuredRow
from analysis.evidence.stats import OWN_SPREAD_FROM, Spread, mean_interval
from analysis.figures.style import GREY, say
from repro.harness.experiments.experiment import Metric

ONE_SEED, COLLAPSED, MEAN = "one seed", "one seed, collapsed", "mean of all its seeds"
INTERVAL = "95 % interval of the mean"
BORROWED = "95 % interval, spread borrowed"
FLOOR, CHANCE = "k-NN of random initialisation", "chance"
LEGEND = (ONE_SEED, COLLAPSED, MEAN, INTERVAL, BORROWED, FLOOR, CHANCE)
DOTTED: dict[str, Any] = {"color": GREY, "ls": (0, (1, 2)), "lw": 1.2, "zorder": 0}
DASHED: dict[str, Any] = {"color": GREY, "ls": (0, (5, 3)), "lw": 0.8, "zorder": 0}
Point = tuple[float, float]
# Where a number may stand beside its point, in points, the first of equals.
PLACES: tuple[tuple[Point, str], ...] = (
    ((4.0, 8.0), "left"), ((-4.0, 8.0), "right"), ((4.0, -8.0), "left"), ((-4.0, -8.0), "right"),
    ((7.0, 0.0), "left"), ((-7.0, 0.0), "right"), ((4.0, 16.0), "left"), ((4.0, -16.0), "left"),
)  # fmt: skip
ROOM = 0.12  # of the range of what is drawn, above and below it
CLEAR = 8.0  # points from the middle of a number, from which nothing disturbs it


def draw_seeds(
    axes: Axes, at: float, row: MeasuredRow, metric: Metric, upright: bool, **how: Any
) -> None:
    """Every seed as a dot, as a cross where the collapse sentinel reported it."""
    runs = row.runs(metric.variant)
    for seed, value in row.cell(metric.key).values.items():
        healthy = runs[seed].sentinel.healthy
        mark: dict[str, Any] = {"marker": "o", "ms": 3.5, "mew": 0, "label": ONE_SEED}
        if not healthy:
            mark = {"marker": "x", "ms": 5.5, "mew": 1.4, "label": COLLAPSED}
        point = ([at], [value]) if upright else ([value], [at])
        axes.plot(*point, ls="", alpha=0.6, **mark, **how)


def whiskers(
    axes: Axes,
    at: float,
    values: Sequence[float],
    upright: bool = True,
    spread: Spread | None = None,
    **how: Any,
) -> None:
    """The 95 % interval of the mean; of one or two seeds a paler one, with a borrowed spread."""
    borrowed = len(values) < OWN_SPREAD_FROM
    if borrowed and spread is None:
        return
    interval = mean_interval(values, spread=spread)
    style = {"color": "black", "lw": 1.0, "label": INTERVAL, "zorder": 2.5}
    if borrowed:
        style |= {"color": "0.62", "label": BORROWED, "zorder": 1.5}
    ends = [interval.low, interval.high]
    pair = ([at, at], ends) if upright else (ends, [at, at])
    axes.plot(*pair, **{**style, **how})


def same_range(panels: Sequence[Axes], upright: bool) -> None:
    """One range for all panels of a quantity: a point of accuracy is as long everywhere."""
    limits = [one.dataLim.intervaly if upright else one.dataLim.intervalx for one in panels]
    known = [pair for pair in limits if np.all(np.isfinite(pair))]
    if not known:
        return
    low, high = float(np.min(known)), float(np.max(known))
    room = ROOM * (high - low) or 1.0
    for one in panels:
        one.set(**{"ylim" if upright else "xlim": (low - room, high + room)})


def from_zero(axes: Axes, upright: bool) -> None:
    """What cannot be negative has no axis there, whatever an interval says."""
    low, _ = axes.get_ylim() if upright else axes.get_xlim()
    if low < 0:
        (axes.set_ylim if upright else axes.set_xlim)(0)


def draw_chance(axes: Axes, accuracy: float | None, upright: bool) -> None:
    """What guessing gets, where that lies within the panel."""
    low, high = axes.get_ylim() if upright else axes.get_xlim()
    if accuracy is not None and low <= accuracy <= high:
        (axes.axhline if upright else axes.axvline)(accuracy, **DASHED, label=CHANCE)


def random_floor(row: MeasuredRow, variant: str, seeds: Iterable[int]) -> float | None:
    """Mean k-NN of a row's networks before training."""
    runs = row.runs(variant)
    found = [runs[seed].metrics.get("knn_random") for seed in seeds if seed in runs]
    known = [accuracy for accuracy in found if accuracy is not None]
    return float(np.mean(known)) if known else None


def legend(figure: Figure, first: Sequence[Line2D] = (), **how: Any) -> None:
    """Below the picture: the lines `first`, then what was drawn with a label of `LEGEND`."""
    drawn: dict[str, Any] = {}
    for axes in figure.axes:
        for artist, label in zip(*axes.get_legend_handles_labels(), strict=True):
            drawn.setdefault(label, artist)
    handles = [*first, *(drawn[label] for label in LEGEND if label in drawn)]
    style: dict[str, Any] = {"ncols": 3, "handlelength": 2.2}
    figure.legend(handles=handles, loc="outside lower center", **{**style, **how})


def say_clear(
    axes: Axes, numbers: Sequence[tuple[Point, str, Any]], lines: Iterable[Sequence[Point]]
) -> None:
    """Numbers (point, text, colour), each on the side of its point that is farthest from `lines`,
    the other points, the numbers before it, and the panel's ends. The axes' limits are final.
    """
    drawn = [_on_paper(axes, line) for line in lines]
    segments = [pair for line in drawn for pair in pairwise(line)]
    taken = list(_on_paper(axes, [point for point, _, _ in numbers]))
    own = list(taken)
    left, right = _on_paper(axes, [(x, axes.get_ylim()[0]) for x in axes.get_xlim()])[:, 0]
    for (point, text, colour), at in zip(numbers, own, strict=True):

        def room(place: tuple[Point, str], at: Any = at, text: str = text) -> float:
            (x, y), side = place
            half = 2.0 * len(text)
            middle = at + np.array([x + (half if side == "left" else -half), y])
            near = [_distance(middle, *segment, half) for segment in segments]
            near += [_distance(middle, one, one, half) for one in taken if one is not at]
            edges = (middle[0] - half - left, right - middle[0] - half)
            return float(min(CLEAR, *edges, *near))

        offset, side = max(PLACES, key=room)
        half = 2.0 * len(text) * (1 if side == "left" else -1)
        taken.append(at + np.array([offset[0] + half, offset[1]]))
        say(axes, text, point, offset, side, color=colour)


def _on_paper(axes: Axes, points: Sequence[Point]) -> Any:
    """In typographic points, as far as the layout is known."""
    figure = axes.get_figure()
    assert figure is not None, "a number beside a point of no figure"
    return axes.transData.transform(np.array(points, dtype=float)) * 72 / figure.dpi


def _distance(middle: Any, start: Any, end: Any, half: float) -> float:
    """From a word of width 2 x half to a segment: the least of three of its points."""
    words = [middle + np.array([shift, 0.0]) for shift in (-half, 0.0, half)]
    along, length = end - start, float(np.sum((end - start) ** 2))
    shares = [
        min(max(float(np.dot(word - start, along)) / length, 0.0), 1.0) if length else 0.0
        for word in words
    ]
    return min(
        math.dist(word, start + share * along) for word, share in zip(words, shares, strict=True)
    )
