"""The runs that somebody asks about, at one moment, and how many of them are how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro.harness.experiments.address import with_colon
from repro.harness.experiments.experiment import known_ids
from repro.harness.experiments.folders import published_in
from repro.harness.plan.cost import hours_left
from repro.harness.runs.published import published_runs
from repro.harness.runs.states import LIVE, State
from repro.harness.runs.store import RunFolder
from repro.harness.status.find import describe, find, rows_of
from repro.harness.status.overview import Overview, overview
from repro.terminal import count


@dataclass(frozen=True)
class Look:
    """How the runs were.

    Attributes:
        entries: the runs as `status --json` tells them.
        asked_as: by run id, the (experiment, row) that it was asked for as.
    """

    folders: list[RunFolder]
    entries: list[dict[str, Any]]
    overview: Overview
    results: Path
    asked_as: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether one of them runs or will, so that another look may tell more."""
        views = self.overview.views.values()
        return any(view.state is State.running or view.sent for view in views)


def look(patterns: Sequence[str], results: Path) -> Look:
    """At the runs that match."""
    folders, seen = find(patterns, results)
    asked_as: dict[str, list[tuple[str, str]]] = {}
    known = known_ids()
    for pattern in (with_colon(word, known) for word in patterns):
        name = pattern.partition(":")[0]
        if name in known:
            for run, row in rows_of(pattern, folders).items():
                asked_as.setdefault(run, []).append((name, row))
    return Look(folders, _entries(folders, seen), seen, results, asked_as)


def look_at(folders: list[RunFolder], results: Path) -> Look:
    seen = overview(folders, results)
    return Look(folders, _entries(folders, seen), seen, results)


def summary(at: Look) -> str:
    """One line: how many are how, and what the unfinished ones will take."""
    states = Counter(entry["state"] for entry in at.entries)
    evaluations = Counter(entry["evaluation"] for entry in at.entries)
    parts = [f"{states[state]} {state}" for state in State if states[state]]
    if coming := evaluations["waiting"] + evaluations["running"]:
        parts.append(f"{count(coming, 'evaluation')} to come")
    bad = [state for state in ("failed", "missing") if evaluations[state]]
    parts += [f"{count(evaluations[state], 'evaluation')} {state}" for state in bad]
    if left := hours_left(_unfinished(at), at.results):
        parts.append(left)
    return ", ".join(parts) or nothing_here(at.results)


def nothing_here(results: Path) -> str:
    """That there are no runs, and where there are published ones, that these are no runs here."""
    published = published_runs(published_in(results))
    if not published:
        return "no runs"
    counts = ", ".join(f"{len(runs)} at {scale}" for scale, runs in published.items())
    return f"no runs here; published: {counts} scale (repro list, repro table ID)"


def _entries(folders: list[RunFolder], seen: Overview) -> list[dict[str, Any]]:
    return [describe(folder, seen.views[folder.id]) for folder in folders]


def _unfinished(at: Look) -> list[tuple[RunFolder, str, float]]:
    """(folder, scale, share still to do) of the runs that are queued or running."""
    unfinished = []
    for folder, entry in zip(at.folders, at.entries, strict=True):
        if entry["state"] in LIVE:
            total = entry["total_steps"]
            share = 1 - entry["step"] / total if total else 1.0
            unfinished.append((folder, entry["scale"], share))
    return unfinished
