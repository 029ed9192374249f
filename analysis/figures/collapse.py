"""Figure 7: target entropy and KL during training, the paper's curves above ours.

Departures: time is the share of the whole training, since the number of epochs differs between
scales; a line at ln K, which differs too, shows what a uniform target would have. Where the
collapse sentinel reported a state to stay, its onset is marked on the curve of that seed. A row
whose seeds ended in different states, or at different steps, has no mean worth the name: each of
its seeds is a line. Where a run stopped on its collapse a bar ends its curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.evidence import Evidence
from analysis.evidence.frames import curves, reported_curves
from analysis.evidence.rows import MeasuredRow
from analysis.figures.style import (
    GREY,
    ONSETS,
    STOP,
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
from repro.harness.experiments.experiment import Experiment
from repro.harness.runs.records import Record

NAMES = {"entropy": "target entropy h(Pt), nats", "kl": "KL(Pt | Ps), nats"}


def draw_collapse(experiment: Experiment, evidence: Evidence) -> Figure:
    """Two lines of panels: the paper's, with its reading error, and ours, with our seeds."""
    figure, grid = panels(2, 2, height=4.9, sharex=True)
    styles = looks([row.name for row in experiment.rows])
    paper, measured = reported_curves(experiment), curves(experiment, evidence)
    first = evidence.rows(experiment)[0]
    parted = [row.name for row in evidence.rows(experiment) if is_parted(row)]
    for column, metric in enumerate(("entropy", "kl")):
        above, below = grid[:, column]
        points = paper[paper["metric"] == metric]
        lines(above, points, "row", styles, lw=1.3)
        reading_band(above, points, "row", styles, experiment.metric(metric).reading_error)
        own = measured[measured["metric"] == metric]
        curves_of_rows(below, own, "row", styles, parted)
        mark_stops(below, own, "row", styles, evidence.rows(experiment))
        mark_onsets(below, experiment, evidence, metric, styles)
        for axes, config in ((above, first.paper_config()), (below, first.config())):
            _limits(axes, metric, config.head.prototypes)
        above.set_title(NAMES[metric])
        share_of_training(below)
        above.tick_params(labelbottom=False)
    grid[0, 0].set_ylabel("paper (digitised)")
    grid[1, 0].set_ylabel(ours(evidence))
    figure.legend(
        handles=_legend(experiment, evidence, measured, styles, parted),
        loc="outside lower center",
        ncols=2,
        handlelength=3.2,
    )
    return figure


def is_parted(row: MeasuredRow) -> bool:
    """Whether its seeds ended in different states, or at different steps."""
    return len({(run.sentinel.state, run.stopped_on) for run in row.runs().values()}) > 1


def onset(run: Record) -> tuple[str, float] | None:
    """What the sentinel last reported of a run and the share of training at which it set in."""
    steps = run.stopped_on.of if run.stopped_on else run.counts.steps
    if run.sentinel.healthy or not steps:
        return None
    return run.sentinel.state, run.sentinel.since_step / steps


def mark_onsets(
    axes: Axes, experiment: Experiment, evidence: Evidence, metric: str, styles: dict[str, Look]
) -> None:
    """A mark a seed that the sentinel reported, on that seed's own curve."""
    measured = curves(experiment, evidence)
    measured = measured[measured["metric"] == metric]
    for row in evidence.rows(experiment):
        for seed, run in row.runs().items():
            if (began := onset(run)) is None:
                continue
            state, share = began
            own = measured[(measured["row"] == row.name) & (measured["seed"] == seed)]
            if own.empty:
                continue
            height = np.interp(share, own["fraction"], own["value"])
            # Hollow: some fall on others.
            how: dict[str, Any] = {"ms": 6.5, "mfc": "none", "mew": 1.3, "clip_on": False}
            colour = styles[row.name].colour
            axes.plot([share], [height], ONSETS[state], mec=colour, zorder=4, **how)


def _limits(axes: Axes, metric: str, K: int) -> None:
    """Where the two forms of collapse would be, with room for the words below zero."""
    axes.axhline(0, color=GREY, lw=0.7, zorder=0)
    if metric == "entropy":
        axes.axhline(math.log(K), color=GREY, lw=0.9, ls=(0, (2, 2)), zorder=0)
        text = f"ln K = {math.log(K):.2f} (K = {K:,}): uniform"
        say(axes, text, (1, math.log(K)), (0, 6), "right")
        axes.set_ylim(top=1.16 * math.log(K))
    axes.set_ylim(bottom=-0.13 * axes.get_ylim()[1])
    text = "0: one dimension" if metric == "entropy" else "0: constant output"
    say(axes, text, (1, 0), (0, -6.5), "right")


def _legend(
    experiment: Experiment,
    evidence: Evidence,
    measured: pd.DataFrame,
    styles: dict[str, Look],
    parted: Sequence[str],
) -> list[Line2D]:
    runs = [run for row in evidence.rows(experiment) for run in row.runs().values()]
    handles = [
        Line2D([], [], color=styles[row.name].colour, ls=styles[row.name].dashes, label=row.label)
        for row in experiment.rows
        if row.name in set(measured["row"]) or row.reported_curve
    ]
    whole = measured[~measured["row"].isin(parted)]
    seeds = whole.groupby("row")["seed"].nunique()
    if not seeds.empty and seeds.max() > 1:
        label = f"band below: range of {seeds_of(list(seeds))}, line: their mean"
        handles.append(Line2D([], [], color=GREY, lw=6, alpha=0.3, label=label))
    if parted:
        how = "differently" if any(run.stopped_on for run in runs) else "in different states"
        label = f"thin lines below: seeds of a row that end {how}"
        handles.append(Line2D([], [], color=GREY, lw=0.9, label=label))
    errors = [experiment.metric(metric).reading_error for metric in NAMES]
    read = f"band above: reading error, {errors[0]} and {errors[1]} nats"
    handles.append(Line2D([], [], color=GREY, lw=6, alpha=0.3, label=read))
    states = {began[0] for run in runs if (began := onset(run))}
    handles += [
        Line2D([], [], ls="", marker=mark, mfc="none", mec=GREY, mew=1.3, ms=6.5,
               label=f"collapse sentinel: {state.replace('_', ' ')}, onset in one seed")
        for state, mark in ONSETS.items()
        if state in states
    ]  # fmt: skip
    if any(run.stopped_on for run in runs):
        handles.append(Line2D([], [], ls="", marker=STOP, mec=GREY, mew=1.6, ms=11, label=STOPPED))
    return handles
