"""The diagnostics of any runs in one picture, for people who train their own: `figure collapse`.

What Figure 7 shows for four runs of the paper: entropy in units of ln K (so that runs with other K
compare), KL, effective rank and spread of the features, norm of the centre, k-NN, over epochs;
where the collapse sentinel reported a state, its onset. Runs need not be finished; the legend names
those that stopped on their collapse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence.differences import Flat, flat_identity, in_words, set_apart
from analysis.evidence.evidence import published_evidence
from analysis.evidence.sources import Source
from analysis.figures.style import GREY, ONSETS, Look, looks, panels, say
from repro.decode import read_yaml
from repro.dino.sentinel import Sentinel
from repro.errors import UserError
from repro.harness.experiments.experiment import known_ids, select
from repro.harness.experiments.folders import published_in, results_dir
from repro.harness.runs.curves import Curves, curves_of
from repro.harness.runs.failures import FailureKind
from repro.harness.runs.records import EarlyEnd, Record, early_end
from repro.harness.runs.store import RunFolder
from repro.harness.status.find import ID_PREFIX, find

MOST = 40  # runs that one picture can tell apart
PANELS = {
    "entropy": "target entropy h(Pt) / ln K",
    "kl": "KL(Pt | Ps), nats",
    "effective_rank": "effective rank of the features",
    "centre_norm": "norm of the centre",
    "knn": "teacher k-NN top-1 (%)",
    "feature_spread": "spread of the features",
}


@dataclass(frozen=True)
class ShownRun:
    """A run as this picture needs it. `onset` is the epoch since which the sentinel's state holds;
    of an unfinished run that at which it was reported.
    """

    id: str
    label: str
    curves: Curves
    log_K: float
    state: str
    onset: float
    meaning: str
    config: Flat = field(default_factory=dict, repr=False)
    record: Record | None = field(default=None, repr=False)  # of a published run
    stopped_on: EarlyEnd | None = None
    place: str = ""  # the folder it lies in, if it lies in one

    @property
    def name(self) -> str:
        return f"{self.label} ({self.id[:6]})"

    def curve(self, metric: str) -> tuple[list[float], list[float]]:
        """Epochs and values; entropy in units of ln K."""
        scale = self.log_K if metric == "entropy" else 1.0
        points = self.curves.points(metric)
        return [epoch for epoch, _ in points], [value / scale for _, value in points]

    def sentence(self) -> str:
        since = "" if self.state == "healthy" else f" since epoch {self.onset:.2g}"
        early = f", {self.stopped_on}" if self.stopped_on else ""
        return f"{self.id}  {self.label}: {self.state}{since}{early}: {self.meaning}"


def find_shown(patterns: Sequence[str], source: Source | None = None) -> list[ShownRun]:
    """The runs that paths of folders, patterns as of `repro status`, and published ids mean.

    Raises:
        UserError: a word means no run, or one that has not logged a step; or too many runs.
    """
    shown: dict[str, ShownRun] = {}
    for pattern in patterns:
        for run in _meant(pattern, source):
            other = shown.setdefault(run.name, run)
            if other.place != run.place:  # of one name, in another folder
                apart = replace(run, label=f"{run.label}, {run.place}")
                shown.setdefault(apart.name, apart)
    if len(shown) > MOST:
        raise UserError(f"{len(shown)} runs are too many for one picture; at most {MOST}")
    return list(shown.values())


def draw_runs(runs: Sequence[ShownRun]) -> Figure:
    """One line a run in every panel; the legend says what the sentinel reported."""
    figure, grid = panels(2, 3, height=4.1 + 0.17 * math.ceil(len(runs) / 2))
    styles = looks([run.name for run in runs])
    for axes, (metric, title) in zip(grid.flat, PANELS.items(), strict=True):
        for run in runs:
            x, y = run.curve(metric)
            look = styles[run.name]
            few = {"marker": look.marker, "ms": 3.5} if metric == "knn" else {}
            axes.plot(x, y, color=look.colour, ls=look.dashes, lw=1.5, **few)
            if run.state != "healthy" and x:
                _mark(axes, run, x, y, look)
        axes.set_title(title, fontsize=8.5)
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
    for axes, height in ((grid[0, 0], 0.0), (grid[0, 0], 1.0), (grid[0, 1], 0.0)):
        axes.axhline(height, color=GREY, lw=0.9, ls=(0, (2, 2)), zorder=0)
    say(grid[0, 0], "ln K", (grid[0, 0].get_xlim()[1], 1.0), (0, 6), "right")
    figure.legend(
        handles=_legend(runs, styles), loc="outside lower center", ncols=2, handlelength=4
    )
    return figure


def _meant(word: str, source: Source | None) -> Iterator[ShownRun]:
    """The run of a folder; else those that a pattern means, of one source or of both.

    By default this machine's own where there are any, else the published ones.
    """
    path = Path(word)
    if (path / "config.yaml").is_file():
        yield of_folder(RunFolder(path.resolve()))
        return
    folders: list[RunFolder] = []
    complaint = UserError(f"no run here and none published is '{word}'")
    if source is not Source.published:
        try:
            folders, _ = find([word], results_dir())
        except UserError as error:
            complaint = error
    started = [folder for folder in folders if folder.last_step() is not None]
    wanted = source in (Source.published, Source.all) or (source is None and not started)
    published = list(_published(word)) if wanted else []
    if not started and not published:
        raise _silent(folders[0]) if folders else complaint
    yield from map(of_folder, started)
    here = {folder.id for folder in started}
    for record in published:
        shown = of_record(record)
        yield replace(shown, label=f"{shown.label}, published") if record.id in here else shown


def _published(word: str) -> Iterator[Record]:
    """Published records of all scales: by experiment or rows, start of an id, glob on the slug."""
    is_row = word.partition(":")[0] in known_ids()
    for file in sorted(published_in(results_dir()).glob("*/records.jsonl")):
        scale = file.parent.name
        evidence = published_evidence(scale)
        if is_row:
            for experiment, rows in select([word]):
                for row in rows:
                    yield from evidence.of(experiment, row).all_runs
        else:
            is_id = ID_PREFIX.fullmatch(word)
            for identity, record in evidence.records.items():
                if fnmatchcase(record.slug, word) or (is_id and identity.startswith(word)):
                    yield record


def of_record(record: Record) -> ShownRun:
    """A published run."""
    early, since = record.stopped_on, record.sentinel.since_step
    steps = early.of if early else record.counts.steps
    epochs = record.config["train"]["epochs"]
    return ShownRun(
        id=record.id,
        label=record.slug,
        curves=record.curves,
        log_K=record.metrics.get("log_K") or 1.0,
        state=record.sentinel.state,
        onset=since / steps * epochs if steps else 0.0,
        meaning=record.sentinel.meaning,
        config=flat_identity(record.config),
        record=record,
        stopped_on=early,
    )


def of_folder(folder: RunFolder) -> ShownRun:
    """A run folder as it is now.

    Raises:
        UserError: nothing has been logged there yet.
    """
    events = folder.metrics()
    steps = [event for event in events if event["kind"] == "step"]
    if not steps:
        raise _silent(folder)
    config = flat_identity(read_yaml(folder.path / "config.yaml"))
    log_K = math.log(config["head.prototypes"])
    last = steps[-1]
    result, failure = folder.result(), folder.failure()
    if failure and failure.kind is FailureKind.nan:  # raised before its step could be logged
        state, since = "nan", failure.step
    elif result is not None:
        state, since = result["sentinel"]["state"], result["sentinel"]["since_step"]
    else:
        state = last["sentinel"]
        other = [event["step"] for event in steps if event["sentinel"] != state]
        since = (other[-1] if other else 0) + 1
    return ShownRun(
        id=folder.id,
        label=folder.slug,
        curves=curves_of(events),
        log_K=log_K,
        state=state,
        onset=since * last["epoch"] / last["step"],
        meaning=Sentinel(log_K, grace=0, patience=0, state=state).meaning(),
        config=config,
        stopped_on=early_end(result, str(folder.path)),
        place=str(folder.path.resolve().parent),
    )


def _silent(folder: RunFolder) -> UserError:
    return UserError(f"{folder.path}: no step has been logged yet; repro status {folder.id}")


def _mark(axes: Axes, run: ShownRun, x: list[float], y: list[float], look: Look) -> None:
    how: dict[str, Any] = {"ms": 7, "mec": "black", "mew": 0.8, "zorder": 4}
    height = float(np.interp(run.onset, x, y))
    axes.plot([run.onset], [height], ONSETS[run.state], color=look.colour, **how)


def _legend(runs: Sequence[ShownRun], styles: dict[str, Look]) -> list[Line2D]:
    handles = []
    for run, apart in zip(runs, set_apart([run.config for run in runs]), strict=True):
        look = styles[run.name]
        marker = "" if run.state == "healthy" else ONSETS[run.state]
        # What `repro train` made before runs had names are all called alike.
        name = run.name if run.record or not apart else f"{run.name} {in_words(apart, 2)}"
        label = f"{name}: {run.state.replace('_', ' ')}{', stopped early' * bool(run.stopped_on)}"
        style = {"color": look.colour, "ls": look.dashes, "lw": 1.5}
        handles.append(
            Line2D([], [], marker=marker, mec="black", mew=0.8, ms=7, label=label, **style)
        )
    return handles
