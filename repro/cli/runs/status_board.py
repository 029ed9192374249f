"""`repro status`: a board in the paper's layout, causes of failures in groups, what remains.

A line a row of the experiment, a sign a seed: its state by shape and colour. Below it the failures,
grouped by cause with the decisive line, the hosts, how many, and what to do.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from repro.harness.experiments.experiment import Experiment, experiment_ids, load
from repro.harness.plan.cost import hours_left
from repro.harness.runs.states import LIVE, State
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.status.find import describe, find, rows_of
from repro.harness.status.overview import Overview, overview
from repro.harness.status.triage import Cause, grouped
from repro.terminal import count, print_table, tick

PLAIN_WIDTH = 200
# Shapes differ, so that no reader depends on colour.
SIGNS = {
    "done": ("█", "green"),
    "running": ("▶", "cyan"),
    "queued": ("░", "blue"),
    "interrupted": ("‖", "yellow"),
    "cancelled": ("-", "yellow"),
    "failed": ("✗", "bold red"),
    "lost": ("?", "bold magenta"),
}
LINE = ("id", "run", "state", "step", "")
NAMED = 6  # run ids that a group of failures shows


@dataclass(frozen=True)
class Look:
    """The runs a person asked for, at one moment."""

    folders: list[RunFolder]
    entries: list[dict[str, Any]]
    seen: Overview
    results: Path
    places: dict[str, list[tuple[str, str]]]  # by run id, (experiment, row) it was asked for as


def look(patterns: Sequence[str], results: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The runs as `status --json` tells them, and notes on SLURM."""
    at = _look(patterns, results)
    return at.entries, at.seen.notes


def show(patterns: Sequence[str], results: Path, runs: bool) -> None:
    """Print the board; with `runs`, a line a run instead."""
    _print(_look(patterns, results), runs)


def watch(patterns: Sequence[str], results: Path, every: float, runs: bool) -> None:
    """The same again and again, until nothing is queued or running any more."""
    console = _console()
    if not console.is_terminal:
        while True:
            at = _look(patterns, results)
            _print(at, runs)
            if not _live(at):
                return
            time.sleep(every)
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            at = _look(patterns, results)
            live.update(_lines(at) if runs else _board(at), refresh=True)
            if not _live(at):
                return
            time.sleep(every)


def wait_for(ids: Sequence[str], results: Path, every: float = 5.0) -> bool:
    """Until none of these runs is queued, running or being evaluated; says when that changes.

    Returns:
        Whether all of them are done, and no evaluation failed.
    """
    told, wanted = "", set(ids)
    while True:
        at = _at([f for f in find_runs(results / "runs") if f.id in wanted], results)
        line = _counts(at)
        if line != told:
            print(line, flush=True)
            told = line
        if not _live(at):
            done = {e["id"] for e in at.entries if e["state"] == "done"}
            for text in _failures(at):
                print(text)
            unevaluated = any(e["evaluation"] in ("failed", "missing") for e in at.entries)
            return done >= wanted and not unevaluated
        time.sleep(every)


def show_entries(entries: Sequence[dict[str, Any]]) -> None:
    """A line a run."""
    if entries:
        print_table("", LINE, [_line(entry) for entry in entries])


def _look(patterns: Sequence[str], results: Path) -> Look:
    folders, seen = find(patterns, results)
    places: dict[str, list[tuple[str, str]]] = {}
    for pattern in patterns:
        name = pattern.partition(":")[0]
        if name in experiment_ids():
            for run, row in rows_of(pattern, folders).items():
                places.setdefault(run, []).append((name, row))
    return Look(folders, _entries(folders, seen), seen, results, places)


def _at(folders: list[RunFolder], results: Path) -> Look:
    seen = overview(folders, results)
    return Look(folders, _entries(folders, seen), seen, results, {})


def _entries(folders: list[RunFolder], seen: Overview) -> list[dict[str, Any]]:
    return [describe(folder, seen.views[folder.id]) for folder in folders]


def _print(at: Look, runs: bool) -> None:
    if runs:
        show_entries(at.entries)
        print(_counts(at))
    else:
        _console().print(_board(at))


def _live(at: Look) -> bool:
    return any(view.state == "running" or view.sent for view in at.seen.views.values())


def _board(at: Look) -> RenderableType:
    parts: list[RenderableType] = []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in at.entries:
        # A run that several tables share stands in those asked for, else in its own.
        places = at.places.get(entry["id"]) or [(entry["experiment"], entry["row"])]
        for name, row in places:
            groups.setdefault((name, entry["scale"]), []).append({**entry, "row": row})
    parts += [_table(name, scale, group) for (name, scale), group in groups.items()]
    if at.entries:
        signs = (Text.assemble((sign, style), f" {s}") for s, (sign, style) in SIGNS.items())
        parts.append(Text("  ").join(signs))
    parts += [*_failures(at), Text(_counts(at))]
    parts += [Text(note, style="yellow") for note in at.seen.notes]
    return Group(*parts)


def _lines(at: Look) -> RenderableType:
    table = Table(*LINE, box=box.SIMPLE_HEAD)
    for entry in at.entries:
        name, slug, state, steps, told = _line(entry)
        table.add_row(name, slug, Text(state, SIGNS[state][1]), steps, Text(told))
    return Group(table, Text(_counts(at)))


def _line(entry: dict[str, Any]) -> list[str]:
    """One run under the headings of `LINE`."""
    steps = f"{entry['step']}/{entry['total_steps'] or '?'}"
    told = entry["cause"] or entry["detail"] or entry["sentinel"] or ""
    if entry["evaluation_cause"]:
        told = entry["evaluation_cause"]
    elif entry["evaluation"] in ("waiting", "running", "missing"):
        told += f"; evaluation {entry['evaluation']}"
    return [entry["id"], entry["slug"], entry["state"], steps, told.removeprefix("; ")]


def _table(name: str, scale: str, entries: list[dict[str, Any]]) -> Table:
    """One experiment at one scale, in the paper's columns where it is one of the paper's."""
    experiment = load(name) if name in experiment_ids() else None
    columns = [c.title for c in experiment.layout] if experiment else []
    title = f"{name}, {scale}" + (f": {experiment.title}" if experiment else "")
    table = Table("row", *columns, "seeds", "done", "", title=title, title_justify="left",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    order = _order(experiment)
    rows = sorted(dict.fromkeys(e["row"] for e in entries), key=lambda row: order.get(row, 10**6))
    for row in rows:
        group = sorted((e for e in entries if e["row"] == row), key=lambda e: int(e["seed"]))
        bar = Text()
        for entry in group:
            bar.append(*SIGNS[entry["state"]])
        done = sum(entry["state"] == "done" for entry in group)
        cells = _cells(experiment, row)
        table.add_row(row, *cells, bar, f"{done}/{len(group)}", _progress(group))
    return table


def _order(experiment: Experiment | None) -> dict[str, int]:
    """The place of each run's row name ("r1", "l0.100ep") in the file."""
    if experiment is None:
        return {}
    from repro.harness.experiments.experiment import run_name

    names = [run_name(row, v) for row in experiment.rows for v in experiment.runs_a_row]
    return {name: index for index, name in enumerate(names)}


def _cells(experiment: Experiment | None, name: str) -> list[str]:
    if experiment is None:
        return []
    with suppress(StopIteration):
        stem = name.partition(".")[0]
        row = next(r for r in experiment.rows if r.name in (name, stem))
        return [tick(row.cells.get(c.key, "")) for c in experiment.layout]
    return [""] * len(experiment.layout)


def _progress(group: list[dict[str, Any]]) -> str:
    """What the unfinished runs of a row are at, and what is left of them."""
    parts = []
    for entry in group:
        if entry["state"] == "running" and entry["total_steps"]:
            share = 100 * entry["step"] // entry["total_steps"]
            odd = entry["sentinel"] not in (None, "healthy")
            parts.append(f"s{entry['seed']} {share} %" + (f" ({entry['sentinel']})" if odd else ""))
        elif entry["state"] in LIVE and entry["detail"]:
            parts.append(f"s{entry['seed']} {entry['detail']}")
        elif entry["evaluation"] in ("waiting", "running", "failed", "missing"):
            parts.append(f"s{entry['seed']} evaluation {entry['evaluation']}")
    more = f" and {len(parts) - 2} more" if len(parts) > 2 else ""
    return ", ".join(parts[:2]) + more


def _failures(at: Look) -> list[Text]:
    """The causes, a group each: what, how many, where, and what to do."""
    causes: list[tuple[str, Cause]] = []
    for folder in at.folders:
        view = at.seen.views[folder.id]
        if view.cause and view.state in ("failed", "lost"):
            causes.append((folder.id, view.cause))
        if view.evaluation_cause:
            causes.append((folder.id, view.evaluation_cause))
    lines = []
    for cause, runs, hosts in grouped(causes):
        where = f" on {', '.join(hosts)}" if hosts else ""
        lines.append(
            Text.assemble(
                (f"{len(runs)} x {cause.kind.meaning}", "bold red"),
                f" (--only {cause.kind.short}){where}: {cause.line}\n",
                f"    {' '.join(runs[:NAMED])}{' ...' if len(runs) > NAMED else ''}\n",
                (f"    {cause.kind.remedy}", "italic"),
            )
        )
    return lines


def _counts(at: Look) -> str:
    numbers = Counter(entry["state"] for entry in at.entries)
    words = [f"{numbers[state]} {state}" for state in State if numbers[state]]
    evaluations = Counter(entry["evaluation"] for entry in at.entries)
    if coming := evaluations["waiting"] + evaluations["running"]:
        words.append(f"{count(coming, 'evaluation')} to come")
    bad = [found for found in ("failed", "missing") if evaluations[found]]
    words += [f"{count(evaluations[found], 'evaluation')} {found}" for found in bad]
    left = hours_left(_unfinished(at), at.results)
    if left:
        words.append(left)
    return ", ".join(words) or "no runs"


def _unfinished(at: Look) -> list[tuple[RunFolder, str, float]]:
    """(folder, scale, share still to do) of the runs that are queued or running."""
    found = []
    for folder, entry in zip(at.folders, at.entries, strict=True):
        if entry["state"] in LIVE:
            total = entry["total_steps"]
            found.append((folder, entry["scale"], 1 - entry["step"] / total if total else 1.0))
    return found


def _console() -> Console:
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=PLAIN_WIDTH, file=sys.stdout)
