"""The figures of the paper from our records, as files: which picture is drawn for which name.

Every experiment has one (`repro figure T9`), of the kind that its file names: for `figure: {kind:
rows}` it is `draw_rows` of `analysis/figures/rows.py`. `scorecard` stands for all of them, and
`collapse RUN...` overlays any runs (`analysis/figures/runs.py`). The same records give the same
bytes in every format.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

from matplotlib.figure import Figure

from analysis.evidence.evidence import Evidence
from analysis.evidence.side_by_side import side_by_side
from analysis.evidence.sources import Source
from analysis.figures.runs import draw_runs, find_shown
from analysis.figures.scorecard import draw_scorecard
from analysis.figures.style import styled, write
from analysis.verdicts.claims import judge_ours
from repro.errors import UserError, nearest
from repro.files import digest_of
from repro.harness.experiments.experiment import Experiment, experiment_ids, known_ids, select
from repro.harness.experiments.folders import results_dir

SCORECARD, COLLAPSE = "scorecard", "collapse"
Drawing = Callable[[Experiment, Evidence], Figure]


def draw(names: Sequence[str], evidence: Evidence, formats: Sequence[str]) -> Iterator[str]:
    """Draw what the arguments of `repro figure` name into results/figures; yields what to print.

    Of `all`, experiments without a finished run are left out, with a line on standard error.

    Raises:
        UserError: an unknown name or format, no run to draw.
    """
    scale = evidence.scale
    asked_for(names)
    folder = results_dir() / "figures" / scale
    everything = "all" in names
    if everything and not evidence.records:
        raise UserError(f"no finished run at scale {scale}; repro run T7 --scale {scale}")
    tasks: list[Callable[[], list[Path]]] = []
    for experiment, _ in select([name for name in names if name != SCORECARD]):
        if everything and not _has_runs(experiment, evidence):
            print(f"{experiment.id}: no finished run at scale {scale}, left out", file=sys.stderr)
            continue
        tasks.append(partial(save, experiment, evidence, formats, folder))
    if everything or SCORECARD in names:
        tasks.append(partial(save_scorecard, evidence, formats, folder))
    for paths in side_by_side(tasks):
        yield from map(str, paths)


def asked_for(names: Sequence[str]) -> list[str]:
    """The experiments whose figures the arguments of `repro figure` name.

    Raises:
        UserError: an unknown name.
    """
    valid = [*known_ids(), "all", SCORECARD, COLLAPSE]
    if unknown := [name for name in names if name.partition(":")[0] not in valid[:-1]]:
        raise UserError(f"no figure '{unknown[0]}'; nearest: {nearest(unknown[0], valid)}")
    chosen = select([name for name in names if name != SCORECARD])
    return [experiment.id for experiment, _ in chosen]


def drawn(experiment: Experiment, evidence: Evidence) -> Figure:
    """The figure of an experiment.

    Raises:
        UserError: no finished run to draw.
    """
    if not _has_runs(experiment, evidence):
        raise UserError(
            f"{experiment.id}: no finished run at scale {evidence.scale}; "
            f"repro run {experiment.id} --scale {evidence.scale}"
        )
    with styled():
        return drawing_of(experiment.figure.kind)(experiment, evidence)


def save(
    experiment: Experiment, evidence: Evidence, formats: Sequence[str], folder: Path
) -> list[Path]:
    """`folder/<id>.<format>` for every format; returns the paths.

    Raises:
        UserError: an unknown format, or no finished run to draw.
    """
    figure = drawn(experiment, evidence)
    with styled():
        return write(figure, experiment.id, formats, folder)


def save_scorecard(evidence: Evidence, formats: Sequence[str], folder: Path) -> list[Path]:
    """All claims of all experiments, as `folder/scorecard.<format>`."""
    experiments = map(evidence.experiment, experiment_ids())
    verdicts = [verdict for one in experiments for verdict in judge_ours(one, evidence)]
    with styled():
        return write(draw_scorecard(verdicts), SCORECARD, formats, folder)


def draw_collapse(
    patterns: Sequence[str], source: Source | None, formats: Sequence[str]
) -> Iterator[str]:
    """The paths of the picture, then what the sentinel says of every run.

    Raises:
        UserError: no run, or none that has logged a step.
    """
    if not patterns:
        raise UserError(f"figure {COLLAPSE}: name runs; repro figure {COLLAPSE} 'F7-*-s0'")
    runs = find_shown(patterns, source)
    with styled():
        name = f"{COLLAPSE}-{digest_of(repr([(run.name, run.place) for run in runs]).encode())[:6]}"
        paths = write(draw_runs(runs), name, formats, results_dir() / "figures")
    yield from map(str, paths)
    yield from (run.sentence() for run in runs)


def drawing_of(kind: str) -> Drawing:
    """The function that draws experiments of this kind: a kind is a module of this package."""
    module = import_module(f"analysis.figures.{kind}")
    return cast(Drawing, getattr(module, f"draw_{kind}"))


def _has_runs(experiment: Experiment, evidence: Evidence) -> bool:
    return any(row.all_runs for row in evidence.rows(experiment))
