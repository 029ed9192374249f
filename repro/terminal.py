"""What commands print: tables in a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from repro.errors import UserError


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table fitted to the terminal; where there is none, aligned lines that are never cut."""
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console(highlight=False).print(table)
        return
    if title:
        print(title)
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def count(number: int, noun: str) -> str:
    """A count in words: "1 run", "4 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(hours: float) -> str:
    """Hours in words: "5.0 minutes", "1,234.5 hours"."""
    return f"{hours * 60:.1f} minutes" if hours < 1 else f"{hours:,.1f} hours"


def tick(value: Any) -> str:
    """A table cell as the paper prints it: ticks and crosses for true and false."""
    if isinstance(value, bool):
        return "✓" if value else "✗"
    return str(value)


def confirm(question: str, yes: bool) -> bool:
    """Ask before something costly; `yes` answers in advance.

    Raises:
        UserError: nobody is there to answer.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody is there to answer: add --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
