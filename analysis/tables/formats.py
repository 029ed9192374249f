"""A table written for a terminal, Markdown, LaTeX, CSV or HTML; same input, same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby, pairwise
from pathlib import Path

import jinja2
import pandas as pd
from pylatexenc.latexencode import (
    RULE_DICT,
    UnicodeToLatexConversionRule,
    UnicodeToLatexEncoder,
)

from analysis.evidence.evidence import Evidence
from analysis.tables.table import Heading, Line, Printed, build
from analysis.tables.terminal import terminal
from analysis.verdicts.confounds import sentences
from repro.errors import UserError, nearest

TEMPLATES = Path(__file__).parents[1] / "templates"
REMARKS = 2  # the last columns of a table are words: sentinel and verdict
# What Markdown would read as more than text: code, tags, entities, links, emphasis.
MARKUP = re.compile(
    r"[`\\]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|!?\[(?=[^\]]*\][(\[])|\*+(?=\S[^*]*\*)|(?<!\w)_+(?=\S[^_]*_)"
)
SIGNS = {ord("✓"): r"\ensuremath{\checkmark}", ord("✗"): r"\ensuremath{\times}"}


def write(printed: Printed, fmt: str, verbose: bool = False) -> str:
    """`printed` as text in one of terminal, md, tex, csv, html; `verbose` concerns the first."""
    writers: dict[str, Callable[[Printed], str]] = {
        "terminal": partial(terminal, verbose=verbose),
        "md": markdown,
        "tex": latex,
        "csv": lambda p: csv([p]),
        "html": html,
    }
    return writers[fmt](printed)


def csv(tables: Sequence[Printed]) -> str:
    """Tables as numbers, below one another under one head."""
    numbers = pd.concat([printed.tidy for printed in tables], ignore_index=True)
    return numbers.to_csv(index=False, lineterminator="\n")


def spans(headings: tuple[Heading, ...]) -> list[tuple[str, int]]:
    """The upper line of the head: (text, columns); descriptive columns stand alone."""
    merged: list[tuple[str, int]] = []
    for heading in headings:
        if merged and heading.over and merged[-1][0] == heading.over:
            merged[-1] = (heading.over, merged[-1][1] + 1)
        else:
            merged.append((heading.over, 1))
    return merged


def groups(lines: tuple[Line, ...]) -> list[tuple[str, list[Line]]]:
    """Neighbouring rows under one sub-heading."""
    return [(group, list(rows)) for group, rows in groupby(lines, key=lambda line: line.group)]


def markdown(printed: Printed) -> str:
    notes = "\n".join(f"- {_text(note)}" for note in printed.notes)
    claims = "\n".join(
        f"- **{_text(f'{c.id} ({c.portability}): {c.verdict}.')}** {_text(c.statement)}  \n"
        "  "
        + _text(
            f"{c.detail}; rule: {c.rule}."
            + (f" Turns: {c.flips}." if c.flips else "")
            + "".join(f" {sentence}." for sentence in sentences(c.confounds))
        )
        for c in printed.claims
    )
    title, body = _text(printed.title), markdown_body(printed) + _markdown_grid(printed)
    return f"### {title}\n\n{body}\n\n{notes}\n\nClaims:\n\n{claims}\n"


def _markdown_grid(printed: Printed) -> str:
    """Behind the table of a grid: its numbers by its axes, and what these change."""
    parts = [
        f"{_text(table.title)}:\n\n"
        + str(
            pd.DataFrame(
                [[_cell(text) for text in line] for line in table.lines],
                columns=[_cell(head) for head in table.heads],
            ).to_markdown(index=False, disable_numparse=True)
        )
        for table in printed.crossed
    ]
    if printed.effects:
        lines = "\n".join(f"- {_text(effect)}" for effect in printed.effects)
        parts.append(f"Effects; the intervals of a metric hold together (95 %):\n\n{lines}")
    return "".join(f"\n\n{part}" for part in parts)


def markdown_body(printed: Printed) -> str:
    """One head line (Markdown has no spans), sub-headings as rows of their own."""
    columns = [_cell(f"{h.over} {h.title}".strip()) for h in printed.headings]
    rows = []
    for group, lines in groups(printed.lines):
        if group:
            rows.append([f"*{_cell(group)}*", *[""] * (len(columns) - 1)])
        rows += [[_cell(e.text, e.best) for e in line.entries] for line in lines]
    frame = pd.DataFrame(rows, columns=columns)
    return str(frame.to_markdown(index=False, disable_numparse=True))


def latex(printed: Printed) -> str:
    """A table environment with booktabs rules, then its notes and claims as lists."""
    upper = spans(printed.headings)
    ends = [0]
    for _, width in upper:
        ends.append(ends[-1] + width)
    rules = [(a + 1, b) for (a, b), (over, _) in zip(pairwise(ends), upper, strict=True) if over]
    before = described(printed)
    text: str = (
        _latex_templates()
        .get_template("table.tex.j2")
        .render(
            title=printed.title,
            label=printed.tidy["experiment"].iloc[0],
            headings=printed.headings,
            spans=upper,
            rules=rules,
            groups=groups(printed.lines),
            described=before,
            measured=len(printed.headings) - before - REMARKS,
            remarks=REMARKS,
            notes=printed.notes,
            claims=printed.claims,
        )
    )
    return text


def html(printed: Printed) -> str:
    page: str = (
        html_templates()
        .get_template("page.html.j2")
        .render(
            printed=printed,
            spans=spans(printed.headings),
            groups=groups(printed.lines),
            described=described(printed),
        )
    )
    return page


@cache
def html_templates() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)


@cache
def _latex_templates() -> jinja2.Environment:
    """Marks that LaTeX leaves alone: \\VAR{...} and \\BLOCK{...}."""
    environment = jinja2.Environment(
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\#{",
        comment_end_string="}",
        trim_blocks=True,
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701  LaTeX, not HTML; `tex` escapes
        undefined=jinja2.StrictUndefined,
    )
    ours = UnicodeToLatexConversionRule(RULE_DICT, SIGNS)
    encoder = UnicodeToLatexEncoder(conversion_rules=[ours, "defaults"])

    def tex(value: object) -> str:
        text = str(encoder.unicode_to_latex(str(value)))
        # Behind the end of a row, a bracket would be read as the row's extra height.
        return text.replace("[", "{[}", 1) if text.startswith("[") else text

    environment.filters["tex"] = tex
    return environment


def described(printed: Printed) -> int:
    """How many columns come before the numbers."""
    measured = [i for i, heading in enumerate(printed.headings) if heading.over]
    return measured[0] if measured else len(printed.headings) - REMARKS


def _text(text: str) -> str:
    """For Markdown: the text as itself, on one line."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.splitlines()))


def _cell(text: str, bold: bool = False) -> str:
    escaped = _text(text).replace("|", r"\|")
    return f"**{escaped}**" if bold else escaped


def words_as(
    fmt: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> str:
    """Any table of words, and notes below it, in Markdown (md) or LaTeX (tex, booktabs' rules)."""
    if fmt == "md":
        cells = [[_cell(text) for text in row] for row in rows]
        frame = pd.DataFrame(cells, columns=[_cell(column) for column in columns])
        table = str(frame.to_markdown(index=False, disable_numparse=True))
        return "\n".join([table, "", *(f"- {_text(note)}" for note in notes)])
    tex: Callable[[str], str] = _latex_templates().filters["tex"]
    head, *body = (" & ".join(map(tex, row)) + r" \\" for row in (columns, *rows))
    rules = [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    table = "\n".join([rf"\begin{{tabular}}{{{'l' * len(columns)}}}", *rules, r"\end{tabular}"])
    return "\n".join([table, *(f"\n{tex(note)}" for note in notes)])


FORMATS = ("terminal", "md", "tex", "csv", "html")


def render_tables(ids: list[str], evidence: Evidence, fmt: str, verbose: bool = False) -> list[str]:
    """Experiments' tables, as text in one of `FORMATS`; as csv all in one.

    Raises:
        UserError: unknown experiment or format.
    """

    if fmt not in FORMATS:
        raise UserError(f"--format {fmt}: no such table format; nearest: {nearest(fmt, FORMATS)}")
    tables = [build(evidence.experiment(name), evidence) for name in ids]
    return [csv(tables)] if fmt == "csv" else [write(one, fmt, verbose) for one in tables]
