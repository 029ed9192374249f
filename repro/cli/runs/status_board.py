"""`repro status`: a board in the paper's layout, causes of failures in groups, what remains.

A line a row of the experiment, a sign a seed: its state by shape and colour. Below it the failures,
grouped by cause with the decisive line, the hosts, how many, and what to do. An experiment that is
named shows its numbers and verdicts, too, once a run of it is done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from repro.cli.runs.look import Look, look, summary
from repro.harness.experiments.experiment import Experiment, known_ids, load, run_name
from repro.harness.experiments.folders import experiments_dir, scales_of
from repro.harness.runs.records import EarlyEnd
from repro.harness.runs.states import LIVE
from repro.harness.status.triage import Cause, grouped
from repro.terminal import fitted_widths, print_table, tick

if TYPE_CHECKING:
    from analysis.tables.board import Board

PLAIN_WIDTH = 200
GAP, MARGIN = 3, 4  # columns of signs between two of a board, and beside all of them
# Shapes differ, so that no reader depends on colour.
SIGNS = {
    "done": ("█", "green"),
    "running": ("▶", "cyan"),
    "queued": ("░", "blue"),
    "interrupted": ("‖", "yellow"),
    "cancelled": ("-", "yellow"),
    "failed": ("✗", "bold red"),
    "lost": ("?", "bold magenta"),
    "damaged": ("!", "bold magenta"),
}
RUN_COLUMNS = ("id", "run", "state", "step", "")
MOST_NAMED = 6  # run ids that a group of failures shows
MOST_WITH_NUMBERS = 3  # experiments; of more, the numbers would take long to come


def show(patterns: Sequence[str], results: Path, runs: bool) -> None:
    """Print the board; with `runs`, a line a run instead."""
    _print(look(patterns, results), runs)


def watch(patterns: Sequence[str], results: Path, every: float, runs: bool) -> None:
    """The same again and again, until nothing is queued or running any more."""
    console = _console()
    if not console.is_terminal:
        while True:
            at = look(patterns, results)
            _print(at, runs)
            if not at.live:
                return
            time.sleep(every)
    with Live(console=console, auto_refresh=False, screen=False) as display:
        while True:
            at = look(patterns, results)
            shown = _run_table(at) if runs else _board(at, console)
            display.update(shown, refresh=True)
            if not at.live:
                return
            time.sleep(every)


def print_runs(entries: Sequence[dict[str, Any]]) -> None:
    """A line a run."""
    if entries:
        print_table("", RUN_COLUMNS, [_run_line(entry) for entry in entries])


def _print(at: Look, runs: bool) -> None:
    if runs:
        print_runs(at.entries)
        print(summary(at))
    else:
        console = _console()
        console.print(_board(at, console))


def _board(at: Look, console: Console) -> RenderableType:
    parts: list[RenderableType] = []
    boards = numbers(at)
    for key, group in _groups(at).items():
        parts += _table(*key, group, console.width, boards.get(key))
    if at.entries:
        rare = any(entry["state"] == "damaged" for entry in at.entries)
        shown = {s: SIGNS[s] for s in SIGNS if s != "damaged" or rare}
        signs = (Text.assemble((sign, style), f" {s}") for s, (sign, style) in shown.items())
        parts.append(Text("  ").join(signs))
    parts += [*failures(at), Text(summary(at))]
    parts += [Text(note, style="yellow") for note in at.overview.notes]
    return Group(*parts)


def _groups(at: Look) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The runs by (experiment, scale)."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in at.entries:
        # A run that several tables share stands in those asked for, else in its own.
        shown_as = at.asked_as.get(entry["id"]) or [(entry["experiment"], entry["row"])]
        for name, row in shown_as:
            groups.setdefault((name, entry["scale"]), []).append({**entry, "row": row})
    return groups


def numbers(at: Look) -> dict[tuple[str, str], Board]:
    """By (experiment, scale), of the few experiments that were named and have a finished run."""
    named = {name for shown_as in at.asked_as.values() for name, _ in shown_as}
    if len(named) > MOST_WITH_NUMBERS:
        return {}
    known, boards = scales_of(experiments_dir()), {}
    for (name, scale), group in _groups(at).items():
        done = sorted((e["id"], e["evaluation"]) for e in group if e["state"] == "done")
        if not (done and name in named and scale in known):
            continue
        if board := _numbers(at.results, name, scale, tuple(done)):
            boards[name, scale] = board
    return boards


@lru_cache(maxsize=16)
def _numbers(
    _results: Path, name: str, scale: str, _done: tuple[tuple[str, str], ...]
) -> Board | None:
    """Asked again only as another run is done or evaluated, however often somebody looks."""
    from analysis.tables.board import board

    return board(name, scale)


def _run_table(at: Look) -> RenderableType:
    """The same lines as `print_runs`, with the states in colour."""
    table = Table(*(Column(name, overflow="fold") for name in RUN_COLUMNS), box=box.SIMPLE_HEAD)
    for entry in at.entries:
        name, slug, state, steps, remark = _run_line(entry)
        table.add_row(name, slug, Text(state, SIGNS[state][1]), steps, Text(remark))
    return Group(table, Text(summary(at)))


def _run_line(entry: dict[str, Any]) -> list[str]:
    """One run under the headings of `RUN_COLUMNS`."""
    steps = f"{entry['step']}/{entry['total_steps'] or '?'}"
    remark = entry["cause"] or entry["detail"] or entry["sentinel"] or ""
    if entry["stopped_on"]:
        remark += f", {_early(entry)}"
    if entry["evaluation_cause"]:
        remark = entry["evaluation_cause"]
    elif entry["evaluation"] in ("waiting", "running", "missing"):
        remark += f"; evaluation {entry['evaluation']}"
    return [entry["id"], entry["slug"], entry["state"], steps, remark.removeprefix("; ")]


def _early(entry: dict[str, Any]) -> str:
    """On what a done run stopped, and where."""
    return str(msgspec.convert(entry["stopped_on"], EarlyEnd))


def _table(
    name: str, scale: str, entries: list[dict[str, Any]], width: int, numbers: Board | None
) -> list[RenderableType]:
    """One experiment at one scale: the columns that the terminal has room for, numbers first."""
    experiment = load(name) if name in known_ids() else None
    described = [c.title for c in experiment.layout] if experiment else []
    title = f"{name}, {scale}" + (f": {experiment.title}" if experiment else "")
    order = _order(experiment)
    rows = sorted(dict.fromkeys(e["row"] for e in entries), key=lambda row: order.get(row, 10**6))
    lines: list[list[Text]] = []
    for row in rows:
        group = sorted((e for e in entries if e["row"] == row), key=lambda e: int(e["seed"]))
        bar = Text()
        for entry in group:
            bar.append(*SIGNS[entry["state"]])
        done = sum(entry["state"] == "done" for entry in group)
        texts = [row, *_cells(experiment, row)]
        measured = numbers.of(row) if numbers else []
        counted, remark = Text(f"{done}/{len(group)}"), Text(_progress(group))
        lines.append([*map(Text, texts), bar, counted, *measured, remark])
    heads = ["row", *described, "seeds", "done", *(numbers.heads if numbers else ()), ""]
    judged = [i + len(described) + 3 for i in numbers.weights] if numbers else []
    words = range(1, len(described) + 1)
    cells = [[cell.plain for cell in line] for line in lines]
    widths = fitted_widths(heads, cells, width - MARGIN, GAP, [*judged, *words])
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i in sorted(widths):
        table.add_column(heads[i], width=widths[i], overflow="fold")
    for line in lines:
        table.add_row(*(line[i] for i in sorted(widths)))
    parts: list[RenderableType] = [table]
    if numbers and numbers.note:
        parts.append(Text(numbers.note, style="dim"))
    left_out = [head for i, head in enumerate(heads) if i not in widths]
    if numbers and left_out:
        say = f"Left out: {', '.join(left_out)} (repro table {name} --scale {scale})."
        parts.append(Text(say, style="dim"))
    return parts


def _order(experiment: Experiment | None) -> dict[str, int]:
    """The position of each run's row name ("r1", "l0.100ep") in the file."""
    if experiment is None:
        return {}
    names = [run_name(row, v) for row in experiment.rows for v in experiment.runs_a_row]
    return {name: index for index, name in enumerate(names)}


def _cells(experiment: Experiment | None, name: str) -> list[str]:
    if experiment is None:
        return []
    stem = name.partition(".")[0]
    described = next((r.described for r in experiment.rows if r.name in (name, stem)), {})
    return [tick(described.get(column.key, "")) for column in experiment.layout]


def _progress(group: list[dict[str, Any]]) -> str:
    """What the unfinished runs of a row are at, what is left of them, and which ended early."""
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
        elif entry["stopped_on"]:
            parts.append(f"s{entry['seed']} {_early(entry)}")
    more = f" and {len(parts) - 2} more" if len(parts) > 2 else ""
    return ", ".join(parts[:2]) + more


def failures(at: Look) -> list[Text]:
    """The causes, a group each: what, how many, where, and what to do."""
    causes: list[tuple[str, Cause]] = []
    for folder in at.folders:
        view = at.overview.views[folder.id]
        if view.cause and view.state in ("failed", "lost", "damaged"):
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
                f"    {' '.join(runs[:MOST_NAMED])}{' ...' if len(runs) > MOST_NAMED else ''}\n",
                (f"    {cause.kind.remedy}", "italic"),
            )
        )
    return lines


def _console() -> Console:
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=PLAIN_WIDTH, file=sys.stdout)
