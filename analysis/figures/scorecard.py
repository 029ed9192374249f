"""All claims of the paper as one picture: a tile a claim, a line an experiment.

Colour and sign say the verdict; the small number is the claim's own, of C.T7.3 the 3, and the
letter behind it how far the claim can be carried to another scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from analysis.figures.style import GREY, SMALL, WIDTH
from analysis.verdicts.claims import ClaimVerdict
from analysis.verdicts.verdict import Outcome
from repro.harness.experiments.experiment import load

LINE = 0.205  # inches; what follows is in units of it down, and of about as much across
HEADING = 1.25
WIDE, TALL, STEP = 1.9, 0.84, 2.03  # a tile, and from one to the next
ACROSS = 3  # entries of the legend in a line
TITLES = ("Tables", "Figures", "App. C", "App. D", "App. E", "App. F")
OVERCLAIM = "overclaim"
LETTERS = 46  # of a title in a line
PORTABILITY = (
    "Letters: M mechanism, at any scale; L large gap; S small gap; I ImageNet, hardware or "
    "others' networks"
)
GROUPS = ("T", "F", "AC", "AD", "AE", "AF")
LEFT = 17.4  # where tiles begin, right of the names of experiments


@dataclass(frozen=True)
class Mark:
    """How a kind of verdict is drawn; `ink` is the colour of sign and number on it."""

    title: str
    sign: str
    colour: str
    ink: str = "white"
    edge: str = "none"


# From dark to light in grey, too; what is not decided is light.
MARKS: Mapping[str, Mark] = {
    "confirmed": Mark("confirmed", "✓", "#0173b2"),
    "contradicted": Mark("contradicted", "✗", "#9b2f00"),
    "undecided": Mark("undecided", "?", "#eebf74", "black"),
    "too few": Mark("too few seeds yet", "–", "#d9d9d9", "black"),
    "not shown": Mark("does not show at this scale", "~", "#f7e6cd", "black"),
    "not judged": Mark("not judged at this scale", "=", "white", "0.3", "0.6"),
    "not evidence": Mark("not evidence (smoke)", "·", "white", "0.3", "0.6"),
    "not run": Mark("not run", "", "white", "0.5", "0.8"),
}


OPEN: Mapping[Outcome, str] = {
    Outcome.NOT_SHOWN: "not shown",
    Outcome.UNDECIDED: "undecided",
    Outcome.TOO_FEW: "too few",
    Outcome.NOT_JUDGED: "not judged",
    Outcome.NOTHING_PRINTED: "not judged",
    Outcome.NOT_EVIDENCE: "not evidence",
    Outcome.NOT_RUN: "not run",
}


def kind_of(verdict: ClaimVerdict) -> str:
    """Which of `MARKS` a verdict is drawn as."""
    if verdict.holds is not None:
        return "confirmed" if verdict.holds else "contradicted"
    return OPEN[verdict.verdict.outcome]


def draw_scorecard(verdicts: Sequence[ClaimVerdict]) -> Figure:
    """One tile a claim, grouped by experiment, with the verdicts counted above."""
    by_experiment: dict[str, list[ClaimVerdict]] = {}
    for verdict in sorted(verdicts, key=lambda v: _order(v.experiment)):
        by_experiment.setdefault(verdict.experiment, []).append(verdict)
    entries = _entries(verdicts)
    top = 3.2 + math.ceil(len(entries) / ACROSS)
    headings = len({_group(name) for name in by_experiment})
    height = top + len(by_experiment) + HEADING * headings
    widest = max((len(own) for own in by_experiment.values()), default=0)
    across = max(LEFT + STEP * widest + 0.4, 2 * LEFT)
    figure = Figure(figsize=(WIDTH, LINE * height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, across), ylim=(height, 0))
    axes.axis("off")
    title = f"{len(verdicts)} claims of the paper"
    axes.text(0.3, 0.8, title, fontsize=10.5, weight="bold", va="center")
    for index, (kind, text) in enumerate(entries):
        x, y = 0.3 + (index % ACROSS) * across / ACROSS, 2.0 + index // ACROSS
        _tile(axes, x, y, kind)
        axes.text(x + STEP + 0.2, y, text, fontsize=7.8, va="center")
    axes.text(0.3, top - 1.3, PORTABILITY, va="center", **SMALL)
    line, last = top, ""
    for name, own in by_experiment.items():
        if _group(name) != last:
            last = _group(name)
            heading = TITLES[GROUPS.index(last)]
            axes.text(0.3, line + 0.35, heading, fontsize=8.5, weight="bold", va="center")
            line += HEADING
        _experiment(axes, line, name, own)
        line += 1
    return figure


def _entries(verdicts: Sequence[ClaimVerdict]) -> list[tuple[str, str]]:
    """The legend: kinds of tiles, each with how many claims are of it."""
    kinds = [kind_of(verdict) for verdict in verdicts]
    entries = [(k, f"{kinds.count(k)} {MARKS[k].title}") for k in MARKS if k in kinds]
    overclaims = sum(verdict.on_paper == OVERCLAIM for verdict in verdicts)
    if overclaims:
        entries.append((OVERCLAIM, f"{overclaims} overclaims of the paper"))
    return entries


def _experiment(axes: Axes, line: float, name: str, verdicts: Sequence[ClaimVerdict]) -> None:
    axes.text(0.3, line, name, fontsize=7.8, va="center")
    title = "\n".join(wrap(load(name).title, LETTERS))
    axes.text(4.9, line, title, va="center", color=GREY, fontsize=6.3, linespacing=0.95)
    for index, verdict in enumerate(verdicts):
        x = LEFT + STEP * index
        _tile(axes, x, line, kind_of(verdict), number_of(verdict), verdict.portability)
        if verdict.on_paper == OVERCLAIM:
            _ear(axes, x, line)


def _tile(
    axes: Axes, x: float, y: float, kind: str, number: str = "", portability: str = ""
) -> None:
    """A rounded box with the sign of its verdict and, beside it, the claim's number and letter."""
    mark = MARKS["not run" if kind == OVERCLAIM else kind]
    box = FancyBboxPatch(
        (x, y - TALL / 2), WIDE, TALL, boxstyle="round,pad=0,rounding_size=0.12",
        fc=mark.colour, ec=mark.edge, lw=0.7,
    )  # fmt: skip
    axes.add_patch(box)
    how: dict[str, Any] = {"color": mark.ink, "ha": "center", "va": "center_baseline"}
    if mark.sign:
        where = 0.2 if number else 0.5
        axes.text(x + where * WIDE, y, mark.sign, fontsize=8, weight="bold", **how)
    if number:
        size = 4.2 if "\n" in number else 5.8
        axes.text(x + 0.54 * WIDE, y, number, fontsize=size, linespacing=0.9, **how)
        axes.text(x + 0.84 * WIDE, y, portability, fontsize=5.2, alpha=0.75, **how)
    if kind == OVERCLAIM:
        _ear(axes, x, y)


def _ear(axes: Axes, x: float, y: float) -> None:
    """A dog-ear: the paper's own numbers do not bear this claim out."""
    top, size = y - TALL / 2 - 0.03, 0.45
    corner = x + WIDE + 0.03
    ear = [(corner, top), (corner - size, top), (corner, top + size)]
    axes.add_patch(Polygon(ear, fc="black", ec="white", lw=0.5, zorder=3))


def number_of(verdict: ClaimVerdict) -> str:
    """Of C.T7.3 the 3, of C.T8.1_300 the 1 over 300: T8 has two of number 1."""
    return verdict.id.rpartition(".")[2].replace("_", "\n")


def _group(name: str) -> str:
    letters = re.match(r"[A-Z]+", name)
    word = letters.group() if letters else name
    return next((g for g in reversed(GROUPS) if word.startswith(g)), "T")


def _order(name: str) -> tuple[int, int, str]:
    """Tables before figures before appendices, T2 before T10."""
    number = re.fullmatch(r"[TF](\d+)\w?", name)
    return GROUPS.index(_group(name)), int(number[1]) if number else 0, name
