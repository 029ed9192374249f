"""A table written for a terminal, Markdown, LaTeX, CSV or HTML; same input, same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jinja2
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.claims import ClaimVerdict, verdict_table
from analysis.comparisons import NOT_RUN

if TYPE_CHECKING:
    from analysis.tables import Printed

# What pdflatex does not know; Styler's "latex-math" escape leaves what stands between $ alone.
LATEX = {"✓": r"$\checkmark$", "✗": r"$\times$", "±": r"$\pm$"}
PAGE = jinja2.Template(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } thead { border-bottom: 2px solid }
td, th { padding: .25em .7em; text-align: left; vertical-align: top }
tr:nth-child(even) td { background: #f4f4f4 }
</style>
<h1>{{ title }}</h1>
{{ body | safe }}
<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
<h2>Claims</h2>
{{ claims | safe }}
</html>
""",
    autoescape=True,
)


def write(printed: Printed, fmt: str) -> str:
    """`printed` as text in one of terminal, md, tex, csv, html."""
    writers: dict[str, Callable[[Printed], str]] = {
        "terminal": terminal,
        "md": markdown,
        "tex": latex,
        "csv": lambda p: p.tidy.to_csv(index=False, lineterminator="\n"),
        "html": html,
    }
    return writers[fmt](printed)


def claims_frame(claims: list[ClaimVerdict]) -> pd.DataFrame:
    """One row per claim: its id, verdict, statement and evidence."""
    rows = [(c.id, c.verdict, c.statement, c.detail) for c in claims]
    return pd.DataFrame(rows, columns=["claim", "verdict", "statement", "evidence"])


def terminal(printed: Printed) -> str:
    """Styled where standard output is a terminal, plain and uncut elsewhere."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200, no_color=True)
    table = Table(title=printed.title, title_justify="left")
    for column in printed.body.columns:
        table.add_column(Text(str(column)))
    for values in printed.body.itertuples(index=False):
        table.add_row(*(Text(str(v)) for v in values))
    with console.capture() as capture:
        console.print(table)
        for note in printed.notes:
            console.print(Text(note, style="dim"))
        _print_claims(console, printed.claims)
    return capture.get()


def _print_claims(console: Console, claims: list[ClaimVerdict]) -> None:
    """Those with evidence in full; the others in a line, or they would fill the screen."""
    waiting = [claim for claim in claims if claim.verdict == NOT_RUN]
    if len(waiting) < len(claims):
        console.print(verdict_table([claim for claim in claims if claim.verdict != NOT_RUN]))
    if waiting:
        names = ", ".join(claim.id for claim in waiting)
        see = f"repro check {waiting[0].experiment} says what is missing"
        console.print(Text(f"Claims without evidence yet: {names} ({see}).", style="dim"))


def markdown(printed: Printed) -> str:
    unpiped = printed.body.rename(columns=_unpiped).map(_unpiped)
    body = unpiped.to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in printed.notes)
    claims = "\n".join(
        f"- **{c.id}: {c.verdict}.** {c.statement}  \n  {c.detail}." for c in printed.claims
    )
    return f"### {printed.title}\n\n{body}\n\n{notes}\n\nClaims:\n\n{claims}\n"


def latex(printed: Printed) -> str:
    """Three booktabs tabulars (table, notes, claims); needs booktabs, amssymb and T1 fonts."""
    notes = pd.DataFrame({printed.title: printed.notes})
    claims = claims_frame(printed.claims).drop(columns="evidence")
    tables = [
        _tabular(printed.body, "l" * printed.body.shape[1]),
        _tabular(notes, r"p{0.95\linewidth}"),
        _tabular(claims, r"llp{0.6\linewidth}"),
    ]
    return "% needs the packages booktabs, amssymb and fontenc with T1\n" + "\n".join(tables)


def html(printed: Printed) -> str:
    page: str = PAGE.render(
        title=printed.title,
        body=printed.body.to_html(index=False, border=0),
        notes=printed.notes,
        claims=claims_frame(printed.claims).to_html(index=False, border=0),
    )
    return page


def _tabular(frame: pd.DataFrame, columns: str) -> str:
    def speakable(text: object) -> str:
        words = str(text)
        for sign, command in LATEX.items():
            words = words.replace(sign, command)
        return words

    style = frame.rename(columns=speakable).map(speakable).style.hide(axis="index")
    style = style.format(escape="latex-math").format_index(escape="latex-math", axis=1)
    return style.to_latex(hrules=True, column_format=columns)


def _unpiped(text: object) -> str:
    return str(text).replace("|", r"\|")
