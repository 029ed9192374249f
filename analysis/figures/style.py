"""What all pictures share: style, colours with line styles and markers, panels, words, files.

Colours are seaborn's "colorblind" ones. A colour never says anything alone: a line style, a marker
or a word beside it says it too, so that a picture in grey tells the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from repro.errors import UserError, nearest

FORMATS = ("png", "svg", "pdf")
WIDTH = 7.2  # inches: both columns of a paper
GREY = "0.4"
PAPER_COLOUR = "0.35"
OUR_COLOUR = "#0173b2"
SMALL: dict[str, Any] = {"color": GREY, "fontsize": 7.5}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.hashsalt": "dino",  # the same ids, hence the same bytes, every time
    "savefig.dpi": 200,
}
ON_A_SCREEN: dict[str, Any] = {"format": "png", "dpi": 72, "bbox_inches": "tight"}
# No dates: the same records give the same bytes.
SAVING: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 3}},  # as small as 6, in less time
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}
# Behind words; a halo around their letters would make every picture twice as large.
BEHIND: dict[str, Any] = {"facecolor": "white", "lw": 0, "alpha": 0.8, "pad": 0.3}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1, 1.3)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "h")
# What the collapse sentinel reports, drawn where it set in.
STOP = "|"  # at the end of the curve of a run that ended early
STOPPED = "run stopped there, on collapse"
ONSETS = {"uniform": "^", "one_dimension": "v", "constant": "X", "nan": "*"}


@dataclass(frozen=True)
class Look:
    """How one of several lines is told from the others, in colour and in grey."""

    colour: Any
    dashes: Any
    marker: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for every name, all different for up to 40 of them."""
    colours = sns.color_palette("colorblind")
    return {
        name: Look(colours[i % len(colours)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(dict.fromkeys(names))
    }


def styled() -> Any:
    """The context in which a picture is drawn and written."""
    return mpl.rc_context({**sns.axes_style("ticks"), **STYLE})


class Picture(Figure):
    """A figure that a notebook shows by itself, with all of its words: no backend has a part in it.

    Jupyter asks what it is to show for `_repr_png_`.
    """

    def _repr_png_(self) -> bytes:
        with styled():
            lay_out(self)
            png = BytesIO()
            self.savefig(png, **ON_A_SCREEN)
            return png.getvalue()


def lay_out(figure: Figure) -> None:
    """Make room for titles and words: once for all formats, since a figure with an engine of its
    own is laid out for each of them.
    """
    if any(axes.get_subplotspec() for axes in figure.axes):
        ConstrainedLayoutEngine().execute(figure)


def panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, Any]:
    """A figure of `height` inches and its array of panels."""
    figure = Picture(figsize=(WIDTH, height), dpi=STYLE["savefig.dpi"])
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:
        sns.despine(ax=axes)
    return figure, grid


def write(figure: Figure, name: str, formats: Sequence[str], folder: Path) -> list[Path]:
    """`folder/<name>.<format>` for every format; returns the paths.

    Raises:
        UserError: another format than png, svg and pdf.
    """
    for one in formats:
        if one not in FORMATS:
            raise UserError(
                f"--format {one}: no such figure format; nearest: {nearest(one, FORMATS)}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    lay_out(figure)
    paths = []
    for one in formats:
        path = folder / f"{name}.{one}"
        figure.savefig(path, **SAVING[one])
        paths.append(path)
    return paths


def say(
    axes: Axes,
    text: str,
    point: tuple[float, float],
    offset: tuple[float, float] = (0, 0),
    side: str = "left",
    **how: Any,
) -> None:
    """Small grey words beside a point, `offset` in points, kept apart from the lines below them.

    They take no room of their own: words that leave the panel say `in_layout=True`.
    """
    style: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "center", **SMALL}
    style |= {"in_layout": False, "bbox": BEHIND, **how}
    axes.annotate(text, point, xytext=offset, **style)


def lines(axes: Axes, points: pd.DataFrame, hue: str, styles: dict[str, Look], **how: Any) -> None:
    """One line a value of `hue`: the mean over seeds, and their range as a band."""
    for name, own in points.groupby(hue, sort=False):
        look = styles[str(name)]
        seeds = own.groupby("fraction")["value"].agg(["mean", "min", "max"])
        style = {"color": look.colour, "ls": look.dashes, "lw": 1.6}
        axes.plot(seeds.index, seeds["mean"], **style | how)
        if own["seed"].nunique() > 1:
            band = {"color": look.colour, "alpha": 0.2, "lw": 0}
            axes.fill_between(seeds.index, seeds["min"], seeds["max"], **band)


def curves_of_rows(
    axes: Axes, points: pd.DataFrame, hue: str, styles: dict[str, Look], parted: Sequence[str]
) -> None:
    """`lines`, but for rows whose seeds have no mean worth the name: each of them is a line."""
    lines(axes, points[~points["row"].isin(parted)], hue, styles)
    keys = list(dict.fromkeys([hue, "row", "seed"]))
    for _, one in points[points["row"].isin(parted)].groupby(keys, sort=False):
        lines(axes, one, hue, styles, lw=0.9)


def mark_stops(
    axes: Axes, points: pd.DataFrame, hue: str, styles: dict[str, Look], rows: Sequence[MeasuredRow]
) -> None:
    """A bar at the end of every curve that is shorter than its training was to be."""
    for row in rows:
        seeds = [run.seed for run in row.stopped()]
        own = points[(points["row"] == row.name) & points["seed"].isin(seeds)]
        ends = own.sort_values("fraction").groupby([hue, "seed"], as_index=False).last()
        for name, at in ends.groupby(hue, sort=False):
            colour = styles[str(name)].colour
            axes.plot(at["fraction"], at["value"], STOP, ms=11, mew=1.6, color=colour)


def reading_band(
    axes: Axes, points: pd.DataFrame, hue: str, styles: dict[str, Look], error: float
) -> None:
    """How far the paper's curves may be from where they were read off the page."""
    if not error:
        return
    for name, own in points.groupby(hue, sort=False):
        x, y = own["fraction"].to_numpy(), own["value"].to_numpy()
        axes.fill_between(x, y - error, y + error, color=styles[str(name)].colour, alpha=0.2, lw=0)


def share_of_training(axes: Axes) -> None:
    axes.set(xlabel="share of training", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def ours(evidence: Evidence) -> str:
    return f"ours, {evidence.scale} scale"


def seeds_of(numbers: Sequence[int]) -> str:
    """How many seeds, of several lines or points: "3 seeds", "1 to 3 seeds"."""
    low, high = min(numbers), max(numbers)
    if low == high:
        return f"{low} seed{'s' if low > 1 else ''}"
    return f"{low} to {high} seeds"
