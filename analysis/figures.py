"""The paper's figures from our records, with the paper's own curves or points beside them.

Figure 7 (target entropy and KL), Figure 6 left (teacher and student), Figure 5 (accuracy against
throughput); Figure 6 right and every table are drawn as one dot a row.

Departures: entropy is drawn in units of ln K and time as the share of the whole training, since K
and the number of epochs differ between scales. Absolute accuracies of another data set are not
comparable, so the paper's and ours stand in panels of their own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from analysis.column_figure import draw_columns
from analysis.frame import (
    PAPER,
    Evidence,
    all_runs_of,
    cell,
    config_of,
    curves,
    load_evidence,
    published_dir,
    reported_curves,
)
from repro.errors import UserError, nearest
from repro.harness.spec import Experiment, Metric

FORMATS = ("png", "svg", "pdf")
GREY = "0.45"
SMALL: dict[str, Any] = {"color": GREY, "fontsize": 7.5}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.hashsalt": "dino",  # the same ids, hence the same bytes, every time
    "savefig.dpi": 200,
}
# No dates: the same records give the same bytes.
METADATA: dict[str, dict[str, Any]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def draw_figure(
    experiment_id: str, scale: str, formats: Sequence[str], folder: Path | None = None
) -> list[Path]:
    """Draw one experiment into `folder` (default: the scale's published folder).

    Raises:
        UserError: unknown experiment, scale or format, or no finished run to draw.
    """
    evidence = load_evidence(scale)
    experiment = evidence.experiment(experiment_id)
    return save(experiment, evidence, formats, folder or published_dir(scale))


def save(
    experiment: Experiment, evidence: Evidence, formats: Sequence[str], folder: Path
) -> list[Path]:
    """`folder/<id>.<format>` for every format; returns the paths."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(
                f"--format {name}: no such figure format; nearest: {nearest(name, FORMATS)}"
            )
    if not any(all_runs_of(experiment, row, evidence) for row in experiment.rows):
        raise UserError(
            f"{experiment.id}: no finished run at scale {evidence.scale}; "
            f"repro run {experiment.id} --scale {evidence.scale}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    draw = DRAWINGS.get(experiment.id, draw_rows)
    paths = []
    with sns.axes_style("ticks"), mpl.rc_context(STYLE):
        figure = draw(experiment, evidence)
        for name in formats:
            path = folder / f"{experiment.id}.{name}"
            figure.savefig(path, metadata=METADATA[name])
            paths.append(path)
    return paths


def draw_collapse(experiment: Experiment, evidence: Evidence) -> Figure:
    """Figure 7: entropy in units of ln K and KL in nats, over the share of training."""
    figure, (left, right) = _panels(2, height=3.1)
    ours, paper = curves(experiment, evidence), reported_curves(experiment)
    colours = dict(
        zip((r.name for r in experiment.rows), sns.color_palette("colorblind"), strict=False)
    )
    log_K = {row.name: _log_K(experiment, row.name, evidence.scale) for row in experiment.rows}
    log_K_paper = {row.name: _log_K(experiment, row.name, PAPER) for row in experiment.rows}
    for axes, metric in ((left, "entropy"), (right, "kl")):
        for frame, scale_by, dashed in ((paper, log_K_paper, True), (ours, log_K, False)):
            points = frame[frame["metric"] == metric].copy()
            if metric == "entropy":
                points["value"] /= points["row"].map(scale_by)
            _lines(axes, points, "row", colours, dashed)
        axes.axhline(0, color=GREY, lw=0.8, ls=":")
        _share_of_training(axes)
    left.axhline(1, color=GREY, lw=0.8, ls=":")
    _say(left, "ln K: uniform", (1, 1), (0, 6), "right")
    _say(left, "0: one dimension", (1, 0), (0, 6), "right")
    _say(right, "0: constant output", (1, 0), (0, 6), "right")
    left.set(title="target entropy", ylabel="h(Pt) / ln K", ylim=(-0.05, 1.12))
    right.set(title="KL divergence", ylabel="KL(Pt | Ps) in nats")
    labels = {row.name: row.label for row in experiment.rows if row.name in set(ours["row"])}
    handles = [Line2D([], [], color=colours[n], label=text) for n, text in labels.items()]
    K, K_paper = (
        config_of(experiment, experiment.rows[0], s).head.prototypes
        for s in (evidence.scale, PAPER)
    )
    words = _ours(evidence, ours["seed"].nunique())
    handles += [
        Line2D([], [], color="black", lw=1.6, label=f"{words}, K = {K}"),
        Line2D([], [], color="black", lw=1.1, ls="--", label=f"paper, digitised, K = {K_paper}"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def draw_teacher_and_student(experiment: Experiment, evidence: Evidence) -> Figure:
    """Figure 6, left: k-NN of both networks during training, the paper's in its own panel."""
    figure, (left, right) = _panels(2, height=2.6)
    ours, paper = curves(experiment, evidence), reported_curves(experiment)
    labels = {"knn": "teacher", "student_knn": "student"}
    colours = dict(zip(labels, sns.color_palette("colorblind"), strict=False))
    _lines(left, paper, "metric", colours, dashed=True)
    _lines(right, ours, "metric", colours, dashed=False, marker="o", markersize=4, mew=0)
    for axes in (left, right):
        _share_of_training(axes)
    left.set(title="paper (digitised)", ylabel="k-NN top-1 (%)")
    right.set(title=_ours(evidence, ours["seed"].nunique()), ylabel="")
    handles = [Line2D([], [], color=colours[key], label=text) for key, text in labels.items()]
    right.legend(handles=handles, loc="lower right")
    return figure


def draw_curves_of_rows(experiment: Experiment, evidence: Evidence) -> Figure:
    """App. E's figure: one curve a row, the paper's in their own panel."""
    figure, (left, right) = _panels(2, height=2.6)
    ours, paper = curves(experiment, evidence), reported_curves(experiment)
    labels = {row.name: row.label for row in experiment.rows}
    colours = dict(zip(labels, sns.color_palette("colorblind"), strict=False))
    _lines(left, paper, "row", colours, dashed=True)
    _lines(right, ours, "row", colours, dashed=False, marker="o", markersize=4, mew=0)
    for axes in (left, right):
        _share_of_training(axes)
    left.set(title="paper (read by eye)", ylabel="k-NN top-1 (%)")
    right.set(title=_ours(evidence, ours["seed"].nunique()), ylabel="")
    handles = [Line2D([], [], color=colours[key], label=text) for key, text in labels.items()]
    right.legend(handles=handles, loc="lower right")
    return figure


def draw_rows(experiment: Experiment, evidence: Evidence) -> Figure:
    """Figure 6, right, and tables: one line a row, the paper's number and ours, seed by seed.

    A table with variants has a pair of panels for each of them.
    """
    metrics = _drawn_metrics(experiment, evidence)
    lines = len(experiment.rows)
    figure, grid = _panels(2, height=(1.4 + 0.27 * lines) * len(metrics), rows=len(metrics))
    for (left, right), metric in zip(grid, metrics, strict=True):
        _draw_metric(left, right, experiment, metric, evidence)
    marks = (("o", sns.color_palette("colorblind")[0], "one seed"), ("|", "black", "mean"))
    handles = [Line2D([], [], ls="", marker=m, color=c, label=text) for m, c, text in marks]
    if any(metric.of == "knn" for metric in metrics):
        handles.append(Line2D([], [], color=GREY, ls=":", label="random initialisation"))
    figure.legend(handles=handles, loc="outside lower right", ncols=3)
    return figure


def _drawn_metrics(experiment: Experiment, evidence: Evidence) -> list[Metric]:
    """k-NN in all its variants where it was measured, else the first metric that was."""
    measured = [
        metric
        for metric in experiment.metrics
        if any(cell(experiment, row, metric.key, evidence).values for row in experiment.rows)
    ]
    knn = [metric for metric in measured if metric.of == "knn"]
    return knn or [*measured, *experiment.metrics][:1]


def _printed_metric(experiment: Experiment, metric: Metric) -> Metric:
    """The metric itself, or what the paper prints in its place (Table 14: linear, no k-NN)."""
    alike = [m for m in experiment.metrics if (m.variant, m.unit) == (metric.variant, metric.unit)]
    printed = [m for m in (metric, *alike) if any(m.key in row.reported for row in experiment.rows)]
    return (printed or [metric])[0]


def _draw_metric(
    left: Axes, right: Axes, experiment: Experiment, metric: Metric, evidence: Evidence
) -> None:
    colour = sns.color_palette("colorblind")[0]
    printed = _printed_metric(experiment, metric)
    for place, row in enumerate(experiment.rows):
        c = cell(experiment, row, metric.key, evidence)
        if (reported := row.reported.get(printed.key)) is not None:
            left.plot([reported], [place], "D", color=GREY, ms=5)
            _say(left, f"{reported:.{printed.decimals}f}", (reported, place), (6, 0), "left")
        seeds = list(c.values.values())
        if seeds:
            mean = sum(seeds) / len(seeds)
            right.plot(seeds, [place] * len(seeds), "o", color=colour, ms=4.5, alpha=0.55, mew=0)
            right.plot([mean], [place], "|", color="black", ms=11, mew=1.6)
            _say(right, f"{mean:.{metric.decimals}f}", (max(seeds), place), (6, 0), "left")
        else:
            box = {"facecolor": "white", "lw": 0, "pad": 1.5}
            where = right.get_yaxis_transform()
            why = c.missing.partition(":")[0]
            right.text(0.03, place, why, transform=where, va="center", **SMALL, bbox=box)
    if metric.of == "knn":
        runs = [run for row in experiment.rows for run in all_runs_of(experiment, row, evidence)]
        floor = np.mean([run["metrics"]["knn_random"] for run in runs])
        right.axvline(floor, color=GREY, lw=1.0, ls=":", zorder=0)
    left.set_yticks(range(len(experiment.rows)), [row.label for row in experiment.rows])
    right.sharey(left)
    left.set_ylim(len(experiment.rows) - 0.5, -0.5)
    right.tick_params(labelleft=False)
    for axes, shown in ((left, printed), (right, metric)):
        axes.margins(x=0.16)
        axes.set_xlabel(f"{shown.title} ({shown.unit})" if shown.unit else shown.title)
        axes.grid(axis="y", color="0.92")
    left.set_title("paper")
    right.set_title(f"ours, {evidence.scale} scale")


def draw_throughput(experiment: Experiment, evidence: Evidence) -> Figure:
    """Figure 5: k-NN against images per second; the machines differ, the shape is compared."""
    figure, (left, right) = _panels(2, height=2.9)
    names = list(dict.fromkeys(str(row.cells["arch"]) for row in experiment.rows))
    for name, colour in zip(names, sns.color_palette("colorblind"), strict=False):
        ours, paper = [], []
        # Small words below the first line and above the others, clear of one another.
        offset, side = ((0, -9), "center") if name == names[0] else ((5, 7), "left")
        for row in (row for row in experiment.rows if row.cells["arch"] == name):
            speed, accuracy = (cell(experiment, row, k, evidence) for k in ("im_s", "knn"))
            if speed.reported is not None and accuracy.reported is not None:
                paper.append((speed.reported, accuracy.reported))
                _say(left, f"patch {row.cells['patch']}", paper[-1], offset, side)
            seeds = speed.values.keys() & accuracy.values.keys()
            if seeds:
                points = [(speed.values[s], accuracy.values[s]) for s in seeds]
                right.plot(*zip(*points, strict=True), "o", color=colour, ms=4, alpha=0.4, mew=0)
                ours.append(tuple(np.mean(points, axis=0)))
                patch = config_of(experiment, row, evidence.scale).model.patch_size
                _say(right, f"patch {patch}", ours[-1], offset, side)
        for axes, points, style in ((left, paper, "o--"), (right, ours, "o-")):
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, style, ms=4, color=colour, lw=1.2, label=name)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="throughput (images/s)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.15)
    left.set(title="paper", ylabel="k-NN top-1 (%)")
    right.set(title=f"ours, {evidence.scale} scale")
    left.legend()
    return figure


def _panels(n: int, height: float, rows: int = 0) -> tuple[Figure, Any]:
    """One line of n panels, or an array of `rows` lines."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    panels = figure.subplots(max(1, rows), n, squeeze=not rows)
    for axes in panels.flat:
        sns.despine(ax=axes)
    return figure, panels


def _lines(
    axes: Axes,
    points: pd.DataFrame,
    hue: str,
    colours: dict[str, Any],
    dashed: bool,
    **options: Any,
) -> None:
    """One line a hue, the mean over seeds, with their range as a band."""
    if points.empty:
        return
    sns.lineplot(
        points,
        x="fraction",
        y="value",
        hue=hue,
        palette=colours,
        ax=axes,
        legend=False,
        errorbar=("pi", 100),
        err_kws={"alpha": 0.18, "lw": 0},
        ls="--" if dashed else "-",
        lw=1.1 if dashed else 1.6,
        **options,
    )


def _say(
    axes: Axes, words: str, place: tuple[float, float], offset: tuple[float, float], side: str
) -> None:
    """Small grey words beside a point, `offset` in points."""
    how: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "center", **SMALL}
    axes.annotate(words, place, xytext=offset, **how)


def _share_of_training(axes: Axes) -> None:
    axes.set(xlabel="share of training", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _ours(evidence: Evidence, seeds: int) -> str:
    spread = f"mean and range of {seeds} seeds" if seeds > 1 else "1 seed"
    return f"ours, {evidence.scale} scale, {spread}"


def _log_K(experiment: Experiment, row: str, scale: str) -> float:
    return math.log(config_of(experiment, experiment.row(row), scale).head.prototypes)


DRAWINGS: dict[str, Callable[[Experiment, Evidence], Figure]] = {
    "F7": draw_collapse,
    "F6L": draw_teacher_and_student,
    "F5": draw_throughput,
    "AD_fig_rn50": draw_teacher_and_student,
    "AE_fig_byol": draw_curves_of_rows,
    "F4": draw_columns,
}


if __name__ == "__main__":
    from repro.cli import main

    sys.exit(main(["figure", *sys.argv[1:]]))
