"""Verdicts as a test runner shows its tests: a line a claim, then what failed, then a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.verdicts.claims import ClaimVerdict
from analysis.verdicts.confounds import sentences
from repro.harness.experiments.experiment import load
from repro.terminal import count

SIGNS = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "yellow")}
PHRASES = {True: "hold", False: "do not", None: "are open"}


def print_checklist(verdicts: Sequence[ClaimVerdict], verbose: bool = False) -> None:
    """One line a claim, grouped by experiment; the evidence of contradicted claims, or of all."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, no_color=True, soft_wrap=True)
    for name, group in groupby(verdicts, key=lambda v: v.experiment):
        console.print(Text(f"{name}  {load(name).title}", style="bold"))
        claims = list(group)
        if console.is_terminal and not verbose:
            console.print(claim_table(claims))
            continue
        for v in claims:
            _print_beside(console, _head(v), Text(v.statement))
            if verbose:
                _print_evidence(console, v)
    contradicted = [v for v in verdicts if v.holds is False]
    if contradicted and not verbose:
        console.print(
            Text(f"\n{count(len(contradicted), 'claim')} not borne out", style="bold red")
        )
        for v in contradicted:
            console.print(Text(f"{v.id}: {v.statement} ({v.where})", style="bold"))
            _print_evidence(console, v)
    console.print(Text(PORTABILITY, style="dim"))
    console.print(Text(summary(verdicts), style="bold"))


def needs(v: ClaimVerdict) -> str:
    """How many seeds an open claim wants."""
    if v.holds is not None or v.seeds_needed is None:
        return ""
    seeds = count(v.seeds_needed, "seed")
    return f"about {seeds} of each row, if means and spreads stay (repro plan {v.id} --power)"


PORTABILITY = (
    "M(echanism) holds at any scale; L(arge gap) needs seeds; S(mall gap) and I(mageNet) need the "
    "paper's scale, and elsewhere at most do not show"
)


def summary(verdicts: Sequence[ClaimVerdict]) -> str:
    """Counts of what holds, then of every verdict."""
    if not verdicts:
        return "no claims"
    held = Counter(v.holds for v in verdicts)
    three = ", ".join(f"{held[holds]} {word}" for holds, word in PHRASES.items())
    outcomes = Counter(str(v.verdict) for v in verdicts).most_common()
    return (
        f"{count(len(verdicts), 'claim')}: {three} ({', '.join(f'{n} {w}' for w, n in outcomes)})"
    )


def _print_evidence(console: Console, v: ClaimVerdict) -> None:
    lines = {
        "evidence": v.detail,
        "rule": v.rule,
        "turns": v.flips,
        "needs": needs(v),
        "beside": "; ".join(sentences(v.confounds)),
        "note": v.note,
    }
    for name, text in lines.items():
        if text:
            _print_beside(console, Text(f"      {name}: ", "dim"), Text(text, "dim"))


def _print_beside(console: Console, head: Text, text: Text) -> None:
    """On one line; where a terminal is narrower, text goes on below itself."""
    if not console.is_terminal:
        console.print(Text.assemble(head, text))
        return
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(head, text)
    console.print(grid)


def _head(v: ClaimVerdict) -> Text:
    sign, colour = SIGNS[v.holds]
    name = f"{v.id:<14}{v.portability}  "
    return Text.assemble((f"  {sign} ", colour), name, (f"{v.verdict!s:<27} ", colour))


def claim_table(verdicts: Sequence[ClaimVerdict]) -> Table:
    """A line a claim, its statement wrapped beneath itself where the terminal is narrow."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for v in verdicts:
        sign, colour = SIGNS[v.holds]
        head = Text.assemble((f"  {sign} ", colour), f"{v.id} {v.portability}")
        table.add_row(head, Text(str(v.verdict), style=colour), v.statement)
    return table


def verdict_table(verdicts: Sequence[ClaimVerdict]) -> Table:
    """Claims with their evidence, for below a table."""
    table = Table(show_lines=True)
    for name in ("claim", "verdict", "statement and evidence"):
        table.add_column(name, overflow="fold")
    for v in verdicts:
        text = Text.assemble(v.statement, "\n", (v.detail, "dim"))
        table.add_row(
            f"{v.id} {v.portability}", Text(str(v.verdict), style=SIGNS[v.holds][1]), text
        )
    return table


def write_junit(verdicts: Sequence[ClaimVerdict], path: Path) -> None:
    """JUnit XML: a suite an experiment; contradicted claims fail, undecided ones are skipped."""
    root = Element("testsuites", name="claims")
    for name, group in groupby(verdicts, key=lambda v: v.experiment):
        claims = list(group)
        held = Counter(v.holds for v in claims)
        suite = SubElement(root, "testsuite", name=name, tests=str(len(claims)), errors="0")
        suite.attrib |= {"failures": str(held[False]), "skipped": str(held[None])}
        for v in claims:
            case = SubElement(suite, "testcase", classname=name, name=f"{v.id}: {v.statement}")
            evidence = f"{v.detail}; rule: {v.rule}"
            if v.holds is None:
                SubElement(case, "skipped", message=str(v.verdict)).text = evidence
            elif v.holds:
                SubElement(case, "system-out").text = f"{v.verdict}; {evidence}"
            else:
                SubElement(case, "failure", message=str(v.verdict)).text = evidence
    path.parent.mkdir(parents=True, exist_ok=True)
    indent(root)
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
