"""The numbers and verdicts that `repro status` shows beside the seeds of an experiment's runs.

They are those of its table, from this machine's own runs at that scale; a line is a run's row, so
one of several variants (l0.100ep) has the columns of its own variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.text import Text

from analysis.evidence.evidence import load_evidence
from analysis.evidence.sources import Source
from analysis.tables.table import BORROWED, OURS, Printed, build
from analysis.verdicts.checklist import SIGNS
from repro.harness.experiments.experiment import run_name

SHOWN = ("paper", OURS)  # the columns of a metric, as they stand
OF_CELLS = ("experiment", "row", "metric", "variant", "n", "mean", "low", "high", "verdict")


@dataclass(frozen=True)
class Board:
    """Columns of numbers, then one of verdicts; `lines` go by the name of a run's row.

    `weights` are the columns in the order in which a narrow terminal keeps them.
    """

    heads: tuple[str, ...]
    weights: tuple[int, ...]
    lines: Mapping[str, Sequence[Text]]
    cells: list[dict[str, Any]]  # for programs
    note: str  # what a mark behind an interval means; empty where there is none

    def of(self, row: str) -> Sequence[Text]:
        """Its entries; blank for one that the file has no more."""
        return self.lines.get(row) or [Text("")] * len(self.heads)


def board(name: str, scale: str) -> Board | None:
    """What the table of an experiment says of this machine's own runs; None if none counts yet.

    An experiment without metrics has none, either.
    """
    evidence = load_evidence(scale, Source.own)
    experiment = evidence.experiment(name)
    counted = any(row.all_runs for row in evidence.rows(experiment))
    if not (counted and experiment.metrics):
        return None
    printed = build(experiment, evidence)
    kept = [i for i, h in enumerate(printed.headings) if h.over and _plain(h.title) in SHOWN]
    heads = [f"{printed.headings[i].over} {_plain(printed.headings[i].title)}" for i in kept]
    ours = [_plain(printed.headings[i].title) == OURS for i in kept]
    # Of each metric ours is the last column that is kept.
    of_kept = [experiment.metrics[sum(ours[:n])].variant for n in range(len(kept))]
    lines: dict[str, Sequence[Text]] = {}
    for row, line in zip(experiment.rows, printed.lines, strict=True):
        verdict = _in_colour(line.entries[-1].text, printed)
        for variant in experiment.runs_a_row:
            its = zip(kept, of_kept, strict=True)
            texts = [line.entries[i].text if v == variant else "" for i, v in its]
            lines[run_name(row, variant)] = [*map(Text, texts), verdict]
    note = next((one for one in printed.notes if one.startswith(BORROWED)), "")
    cells = _cells(printed, scale)
    return Board((*heads, "verdict"), _by_weight(heads), lines, cells, note)


def _by_weight(heads: Sequence[str]) -> tuple[int, ...]:
    """The first metric and the verdict before all others, and of each metric ours first."""
    columns = [
        i
        for _, its in groupby(range(len(heads)), lambda i: heads[i].rpartition(" ")[0])
        for i in sorted(its, key=lambda i: not heads[i].endswith(OURS))
    ]
    first = len(SHOWN) if heads[0].endswith(SHOWN[0]) else 1
    return (*columns[:first], len(heads), *columns[first:])


def _plain(title: str) -> str:
    """Without the tier: "ours (official)" is ours."""
    return title.partition(" (")[0]


def _in_colour(words: str, printed: Printed) -> Text:
    """The verdict on a row, each claim in it as the list of claims has it."""
    text = Text(words)
    for claim in printed.claims:
        said = f"{claim.id} {claim.verdict}"
        if said in words.split("; "):
            start = words.index(said)
            text.stylize(SIGNS[claim.holds][1], start, start + len(said))
    return text


def _cells(printed: Printed, scale: str) -> list[dict[str, Any]]:
    """A dictionary a cell, null where there is no number."""
    frame = printed.tidy.drop_duplicates(["row", "metric"])
    frame = frame[[*OF_CELLS, "reported"]].astype(object)
    cells = frame.where(frame.notna(), None).to_dict("records")
    return [{"scale": scale, **{str(key): value for key, value in one.items()}} for one in cells]
