"""What commands print: tables in a terminal, plain lines elsewhere, JSON for programs.

Where standard output cannot write a sign (ascii, latin-1, cp1252), another stands for it.
"""

from __future__ import annotations

import codecs
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from repro.errors import UserError

GAP = 2  # spaces between columns
WRAPPED_FROM = 24  # cells that are wider may be wrapped


# Ticks and crosses would both become question marks.
STAND_INS = {
    "✓": "y", "✗": "n", "Δ": "D", "−": "-", "–": "-", "—": "-", "─": "-", "━": "-", "│": "|",
    "×": "x", "±": "+-", "≥": ">=", "≤": "<=", "≈": "~", "·": "-", "•": "-", "…": "...", "→": "->",
    "“": '"', "”": '"', "’": "'", "²": "2",
}  # fmt: skip


def ready_streams() -> None:
    """Make the three standard streams such that nothing printed or asked can end in an error."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if hasattr(stream, "reconfigure"):
            plain = codecs.lookup(encoding).name != "utf-8"
            stream.reconfigure(errors=_STAND_IN if plain else "backslashreplace")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """What stands for signs that an encoding lacks; for others their number, as in \\u2713."""
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    known = (STAND_INS.get(sign) or sign.encode("ascii", "backslashreplace") for sign in signs)
    return "".join(one if isinstance(one, str) else one.decode() for one in known), error.end


_STAND_IN = "repro.stand_in"
codecs.register_error(_STAND_IN, _stand_in)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table fitted to the terminal; where there is none, each row on one line."""
    if title:
        print(title)
    for line in table_lines(columns, rows, terminal_width()):
        print(line)


def terminal_width() -> int | None:
    """Columns of the terminal on standard output; None where that is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> list[str]:
    """A table as aligned lines in which no word and no number is cut.

    What is wider than `width` is wrapped between words; columns of words that still have no room
    follow below their row, under their name.
    """
    cells = [list(map(str, row)) for row in rows]
    widths = fitted_widths(columns, cells, width)
    beside = sorted(widths)
    below = [i for i in range(len(columns)) if i not in widths]
    lines = _beside([columns[i] for i in beside], [widths[i] for i in beside])
    if width is not None:
        lines.append("─" * (sum(widths.values()) + GAP * (len(beside) - 1)))
    for row in cells:
        lines += _beside([row[i] for i in beside], [widths[i] for i in beside])
        for i in below:
            if row[i]:
                lines += wrapped(f"{columns[i]}: {row[i]}", width or 0, indent=" " * 4)
    return lines


def fitted_widths(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    gap: int = GAP,
    spared: Sequence[int] | None = None,
) -> dict[int, int]:
    """Of the columns that have room beside each other, by index.

    Args:
        width: in all, with `gap` between two columns.
        spared: those that may go, the last of them first; by default all but the first column,
            the widest first.
    """
    full = {i: max(map(len, (c, *(row[i] for row in rows)))) for i, c in enumerate(columns)}
    if width is None:
        return full
    least = {i: _least_width(c, [row[i] for row in rows]) for i, c in enumerate(columns)}
    goes = (lambda i: full[i]) if spared is None else list(spared).index
    while sum(least.values()) + gap * (len(least) - 1) > width:
        may_go = [i for i in (list(least)[1:] if spared is None else spared) if i in least]
        if not may_go:
            break
        del least[max(may_go, key=goes)]
    spare = width - sum(least.values()) - gap * (len(least) - 1)
    for i in least:
        more = max(0, min(spare, full[i] - least[i]))
        least[i] += more
        spare -= more
    return least


def _least_width(column: str, cells: Sequence[str]) -> int:
    """Short cells are kept whole, e.g. a number with its interval; others wrap between words."""
    kept = max(map(len, cells), default=0)
    if kept > WRAPPED_FROM:
        kept = max(WRAPPED_FROM, *(len(word) for cell in cells for word in cell.split()))
    return max(kept, *(len(word) for word in column.split() or [""]))


def _beside(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row, on as many lines as its longest cell needs."""
    columns = [wrapped(cell, size) or [""] for cell, size in zip(cells, widths, strict=True)]
    lines = []
    for parts in zip_longest(*columns, fillvalue=""):
        line = (" " * GAP).join(part.ljust(w) for part, w in zip(parts, widths, strict=True))
        lines.append(line.rstrip())
    return lines


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most `width`, broken between words only; later lines are indented twice."""
    if len(indent + text) <= width:
        return [indent + text] if text else []
    return textwrap.wrap(
        text,
        max(width, len(indent) * 2 + 1),
        initial_indent=indent,
        subsequent_indent=indent * 2,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_text(text: str) -> None:
    """A line, broken between words where the terminal is narrower."""
    print(*wrapped(text, terminal_width() or len(text)) or [""], sep="\n")


def count(number: int, noun: str) -> str:
    """A count in words: "1 run", "4 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def percent(share: float | None) -> str:
    """A share of a hundred in words: "43.2 %", "none"."""
    return "none" if share is None else f"{share:.1f} %"


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
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(f"{question} Nobody is there to answer: add --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
