"""A table written for a terminal: no number is cut, however narrow it is.

Where the columns do not fit, words and differences are left out first, and a line says so; where
the numbers still do not fit, a row becomes a paragraph with a line a metric. The table comes last,
below the claims, so that it is what a screen shows.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from analysis.tables.table import Entry, Heading, Line, Printed
from analysis.verdicts.checklist import claim_table, verdict_table
from analysis.verdicts.verdict import Outcome
from repro.terminal import table_lines, wrapped

WIDTH_ELSEWHERE = 220  # in files and pipes
# What a narrow terminal does without, in this order; the last as the claims say more.
SPARED = ("verdict", "others", "Δ", "sentinel")
MORE = "With -v: notes, deviations and the evidence behind every claim."


def terminal(
    printed: Printed, verbose: bool = False, claims: bool = True, width: int | None = None
) -> str:
    """Styled where standard output is a terminal, plain elsewhere.

    Args:
        verbose: with the notes, and the evidence behind every claim.
        claims: whether the claims' verdicts come before it.
        width: by default the terminal's.
    """
    tty = sys.stdout.isatty()
    width = width or (shutil.get_terminal_size().columns if tty else WIDTH_ELSEWHERE)
    console = Console(width=width, no_color=not tty, highlight=False)
    with console.capture() as capture:
        if verbose:
            for note in (*printed.notes, *printed.places):
                console.print(Text(note, style="dim"))
        if claims:
            _print_claims(console, printed, verbose)
        if claims or verbose:
            console.print()
        for part in _fitted(printed, console):
            console.print(part)
        _print_grid(console, printed)
        if claims and not verbose:
            console.print(Text(MORE, style="dim"))
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def _fitted(printed: Printed, console: Console) -> list[RenderableType]:
    """The table with as many of its columns as fit, or its paragraphs."""
    everything = range(len(printed.headings))
    for count, padding in [*((n, 1) for n in range(len(SPARED) + 1)), (len(SPARED), 0)]:
        kept = [i for i in everything if printed.headings[i].title not in SPARED[:count]]
        table = _table(printed, kept, padding)
        if _width(table, console) > console.width:
            continue
        if len(kept) == len(everything):
            return [table]
        titles = [heading.title for heading in printed.headings]
        left_out = ", ".join(title for title in SPARED[:count] if title in titles)
        needed = _width(_table(printed, everything), console)
        say = f"Left out: {left_out} (shown at {needed} columns, or by --format md)."
        return [table, Text(say, style="dim")]
    return _paragraphs(printed, console)


def _width(table: Table, console: Console) -> int:
    """Of the table alone; its title is wrapped."""
    options = console.options.update(width=10_000)
    return Measurement.get(console, options, table).maximum


def _table(printed: Printed, kept: Sequence[int], padding: int = 1) -> Table:
    """Some of the columns, each as wide as its cells, under heads that are wrapped."""
    table = Table(
        title=printed.title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, padding, 0, 0),
    )
    heads = [_head(printed, i) for i in kept]
    for head in heads:
        above = [""] * (max(map(len, heads)) - len(head))
        table.add_column(Text("\n".join([*above, *head])), no_wrap=True)
    for group, lines in groupby(printed.lines, key=lambda line: line.group):
        if group:
            table.add_section()
            table.add_row(Text(group, style="italic"))
        for line in lines:
            table.add_row(*(_styled(line.entries[i]) for i in kept))
    return table


def _head(printed: Printed, column: int) -> list[str]:
    """Its lines, which make the column no wider where their words allow it."""
    heading = printed.headings[column]
    wide = max((len(line.entries[column].text) for line in printed.lines), default=0)
    return [*wrapped(heading.over, max(wide, 1)), *wrapped(heading.title, max(wide, 1))]


def _paragraphs(printed: Printed, console: Console) -> list[RenderableType]:
    """A row is what describes it, then a line a metric, then sentinel and verdict."""
    numbers = dict.fromkeys(_plain(h.title) for h in printed.headings if h.over)
    # Columns of all paragraphs are as wide as the widest cell.
    rows = [row for line in printed.lines for row in _metrics(printed, line, list(numbers))]
    texts = [["", *numbers], *([e.text for e in row] for row in rows)]
    sizes = [max(len(row[i]) for row in texts) for i in range(len(numbers) + 1)]
    sizes[0] = min(sizes[0], max(12, console.width - 2 * len(sizes) - sum(sizes[1:])))
    parts: list[RenderableType] = [Text(printed.title, style="italic"), _grid([texts[0]], sizes)]
    for group, lines in groupby(printed.lines, key=lambda line: line.group):
        if group:
            parts.append(Text(group, style="italic"))
        for line in lines:
            pairs = list(zip(printed.headings, line.entries, strict=True))
            words = [f"{h.title} {e.text}" for h, e in pairs if not h.over and e.text]
            before = len(words) - sum(h.title in SPARED for h, _ in pairs if not h.over)
            parts.append(Text(", ".join([line.row, *words[:before]]), style="bold"))
            parts.append(_grid(_metrics(printed, line, list(numbers)), sizes))
            parts.append(Text("  " + ", ".join(words[before:]), style="dim"))
    return parts


def _metrics(printed: Printed, line: Line, numbers: Sequence[str]) -> list[list[Entry]]:
    """Of one row a line a metric: its title, then its numbers in the order of `numbers`."""
    pairs = [(h, e) for h, e in zip(printed.headings, line.entries, strict=True) if h.over]
    rows = []
    for over, group in groupby(pairs, key=lambda pair: pair[0].over):
        entries = {_plain(h.title): (h, e) for h, e in group}
        ours = entries["ours"][0].title.removeprefix("ours")  # " (official)"
        blank = Heading(over, ""), Entry("")
        rows.append(
            [Entry(f"  {over}{ours}"), *(entries.get(number, blank)[1] for number in numbers)]
        )
    return rows


def _plain(title: str) -> str:
    """Without the tier: "ours (official)" is ours."""
    return title.partition(" (")[0]


def _grid(rows: Sequence[Sequence[str | Entry]], sizes: Sequence[int]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for size in sizes:
        grid.add_column(width=size, overflow="fold")
    for row in rows:
        grid.add_row(*(_styled(e) if isinstance(e, Entry) else Text(e) for e in row))
    return grid


def _styled(entry: Entry) -> Text:
    return Text(entry.text, style="bold" if entry.best else "")


def _print_grid(console: Console, printed: Printed) -> None:
    """Its numbers by its axes, and what these change."""
    width = console.width if console.width < WIDTH_ELSEWHERE else None
    for table in printed.crossed:
        console.print(Text(f"\n{table.title}", style="italic"))
        for line in table_lines(table.heads, table.lines, width):
            console.print(Text(line))
    if printed.effects:
        title = "\nEffects; the intervals of a metric hold together (95 %)"
        console.print(Text(title, style="italic"))
        for effect in printed.effects:
            console.print(Text(effect))


def _print_claims(console: Console, printed: Printed, verbose: bool) -> None:
    """Those with evidence, in full or a line each; the others in one, or they fill the screen."""
    waiting = [c for c in printed.claims if c.verdict.outcome is Outcome.NOT_RUN]
    judged = [c for c in printed.claims if c.verdict.outcome is not Outcome.NOT_RUN]
    if judged:
        console.print(verdict_table(judged) if verbose else claim_table(judged))
    if waiting:
        names = ", ".join(claim.id for claim in waiting)
        see = f"repro check {waiting[0].experiment} says what is missing"
        console.print(Text(f"Claims without evidence yet: {names} ({see}).", style="dim"))
