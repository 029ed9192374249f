"""`repro eval` on several checkpoints: numbers in one table, with what test images leave open.

An interval says where a number would lie on other test images of the same kind, a paired one how
far a checkpoint is from the first, image by image (`repro/evals/judged.py`). Neither says anything
of another training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.tables.formats import words_as
from repro.evals.judged import CONFIDENCE, RESAMPLES, difference, interval
from repro.harness.evaluation.answers import Answer
from repro.harness.evaluation.names import PROTOCOLS, numbers
from repro.harness.evaluation.several import Outcome
from repro.harness.runs.evaluations import Judged, WeightsEvaluation
from repro.terminal import GAP, table_lines, terminal_width, wrapped

NOTE = (
    f"In brackets {CONFIDENCE * 100:.0f} % intervals: where the number would lie on other test "
    f"images ({RESAMPLES:,} resamples of them), not after another training."
)
TIERS = "Of two tiers the official one, as the authors' scripts compute it; csv and JSON have both."


@dataclass(frozen=True)
class Number:
    """One number of a protocol; without bounds where it is no mean over test items.

    Attributes:
        difference: to the first checkpoint on the same items, with its bounds.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    items: int | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


@dataclass(frozen=True)
class Line:
    """A checkpoint on one data set: the outcomes of all protocols."""

    checkpoint: str
    data: str
    outcomes: list[Outcome] = field(default_factory=list)
    first: Line | None = None  # whom it is held to
    numbers: dict[tuple[str, str], Number | None] = field(default_factory=dict)  # made so far

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """By protocol."""
        return {one.protocol: one.answer for one in self.outcomes if one.answer is not None}

    def number(self, protocol: str, name: str) -> Number | None:
        """One by its name without the data's; None where it was not measured."""
        if (protocol, name) not in self.numbers:
            self.numbers[protocol, name] = self._made(protocol, name)
        return self.numbers[protocol, name]

    def _made(self, protocol: str, name: str) -> Number | None:
        found = _of(self.answers.get(protocol), name)
        if found is None:
            return None
        value, items = found
        if items is None:
            return Number(value)
        values_M = items.values()
        low, high = interval(values_M) or (None, None)
        number = Number(value, _percent(low), _percent(high), items.count)
        other = self.first and self._same_items(self.first, protocol, name)
        if not other:
            return number
        apart, bounds = difference(values_M, other.values())
        low, high = bounds or (None, None)
        paired = {"difference": _percent(apart), "difference_low": _percent(low)}
        return Number(**asdict(number) | paired | {"difference_high": _percent(high)})

    def _same_items(self, first: Line, protocol: str, name: str) -> Judged | None:
        """What the first checkpoint made of the same items."""
        answers = self.answers[protocol], first.answers.get(protocol)
        found = _of(answers[1], name)
        if answers[1] is None or found is None or found[1] is None:
            return None
        mine, theirs = (one.evaluation.items for one in answers if one is not None)
        return found[1] if mine and mine == theirs else None


def described(outcomes: Sequence[Outcome]) -> list[Line]:
    """A line for every data set and checkpoint; what needs no data stands on the first of these."""
    lines: dict[tuple[str, str], Line] = {}
    firsts: dict[str, Line] = {}
    with_data = [one for one in outcomes if one.data]
    for data in dict.fromkeys(one.data for one in with_data):
        for one in with_data:
            if one.data == data:
                line = Line(one.checkpoint, data, first=firsts.get(data))
                firsts.setdefault(data, line)
                key = (one.checkpoint, data)
                lines.setdefault(key, line).outcomes.append(one)
    for one in (one for one in outcomes if not one.data):
        own = [line for line in lines.values() if line.checkpoint == one.checkpoint]
        line = own[0] if own else lines.setdefault((one.checkpoint, ""), Line(one.checkpoint, ""))
        line.outcomes.append(one)
    return list(lines.values())


def written(lines: Sequence[Line], fmt: str, paired: bool) -> str:
    """The table as text, in one of terminal, md, tex and csv; as csv with every number."""
    if fmt == "csv":
        return _csv(lines)
    columns, rows = _table(lines, paired)
    notes = _notes(lines, paired)
    if fmt == "terminal":
        return "\n".join(_in_terminal(columns, rows, notes, terminal_width()))
    return words_as(fmt, columns, rows, notes)


def as_json(lines: Sequence[Line]) -> dict[str, Any]:
    """For --json."""
    found = []
    for line in lines:
        for one in line.outcomes:
            answer = one.answer
            names = _names(answer)
            found.append(
                {
                    "checkpoint": line.checkpoint,
                    "file": str(one.path),
                    "sha256": _sha256(answer),
                    "data": one.data,
                    "protocol": one.protocol,
                    "over": PROTOCOLS[one.protocol].over,
                    "state": _state(one),
                    "failed": one.failed or None,
                    "answer": str(answer.path) if answer else None,
                    "numbers": {
                        name: asdict(number)
                        for name in names
                        if (number := line.number(one.protocol, name))
                    },
                }
            )
    return {"confidence": CONFIDENCE, "resamples": RESAMPLES, "evaluations": found}


def _table(lines: Sequence[Line], paired: bool) -> tuple[list[str], list[list[str]]]:
    """Numbers of the official tier: those that the paper has."""
    protocols = dict.fromkeys(one.protocol for line in lines for one in line.outcomes)
    shown = [
        (protocol, name)
        for protocol in protocols
        for name in PROTOCOLS[protocol].metrics
        if any(line.number(protocol, name) for line in lines)
    ]
    several = len({line.data for line in lines}) > 1
    columns = [*(["data"] if several else []), "checkpoint", *(name for _, name in shown)]
    rows = []
    for line in lines:
        found = [line.number(*one) for one in shown]
        lead = [line.data] if several else []
        rows.append([*lead, line.checkpoint, *_cells(line, shown, found)])
        if paired and line.first is not None:
            texts = [_difference(number) for number in found]
            if any(texts):
                rows.append([*([""] if several else []), f"  − {line.first.checkpoint}", *texts])
    return columns, rows


def _cells(
    line: Line, shown: Sequence[tuple[str, str]], found: Sequence[Number | None]
) -> Iterator[str]:
    failed = {one.protocol for one in line.outcomes if one.failed}
    for (protocol, _), number in zip(shown, found, strict=True):
        if number is None or number.value is None:
            yield "failed" if protocol in failed else ""
        elif number.items is None:
            yield f"{number.value:.4g}"
        else:
            bounds = "" if number.low is None else f" [{number.low:.1f}, {number.high:.1f}]"
            yield f"{number.value:.1f}{bounds}"


def _in_terminal(
    columns: Sequence[str], rows: list[list[str]], notes: Sequence[str], width: int | None
) -> list[str]:
    """What has no room beside the first numbers stands below them, with the checkpoints again."""
    lines: list[str] = []
    for chosen in _blocks(columns, rows, width):
        part = [[row[i] for i in chosen] for row in rows]
        lines += ([""] if lines else []) + table_lines([columns[i] for i in chosen], part, width)
    return lines + [line for note in notes for line in wrapped(note, width or len(note))]


def _blocks(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> list[list[int]]:
    """Which columns fit beside each other; every block begins with those that name its rows."""
    lead = list(range(columns.index("checkpoint") + 1))
    widths = [max(len(row[i]) for row in (columns, *rows)) + GAP for i in range(len(columns))]
    blocks = [list(lead)]
    for i in range(len(lead), len(columns)):
        full = width is not None and sum(widths[j] for j in [*blocks[-1], i]) - GAP > width
        if full and len(blocks[-1]) > len(lead):
            blocks.append(list(lead))
        blocks[-1].append(i)
    return blocks


def _difference(number: Number | None) -> str:
    if number is None or number.difference is None:
        return ""
    low, high = number.difference_low, number.difference_high
    bounds = "" if low is None else f" [{low:+.1f}, {high:+.1f}]"
    return f"{number.difference:+.1f}{bounds}"


def _notes(lines: Sequence[Line], paired: bool) -> list[str]:
    """What the numbers are, below them."""
    kinds: dict[str, dict[int, None]] = {}
    for line in lines:
        for protocol, answer in line.answers.items():
            counts = [items.count for items in answer.evaluation.judged.values()]
            for count in counts[:1]:
                kinds.setdefault(f"{PROTOCOLS[protocol].over} of {line.data}", {})[count] = None
    counted = [f"{' or '.join(f'{c:,}' for c in n)} {what}" for what, n in kinds.items()]
    notes = [f"Percent, of {'; '.join(counted)}. {NOTE}"] if counted else []
    if any(PROTOCOLS[protocol].tiers for line in lines for protocol in line.answers):
        notes.append(TIERS)
    if paired and any(line.first for line in lines):
        notes.append("Differences are taken item by item, on those that both were judged on.")
    return notes


def _csv(lines: Sequence[Line]) -> str:
    """A line a number, of both tiers."""
    rows = []
    for line in lines:
        for one in line.outcomes:
            head = {
                "checkpoint": line.checkpoint, "file": str(one.path),
                "sha256": _sha256(one.answer) or "", "data": one.data, "protocol": one.protocol,
                "state": _state(one),
            }  # fmt: skip
            names = _names(one.answer)
            found = [(name, line.number(one.protocol, name)) for name in names]
            rows += [head | {"number": n} | asdict(number) for n, number in found if number]
            if not names:
                rows.append(head | {"number": ""} | asdict(Number(None)))
    frame = pd.DataFrame(rows).astype({"items": "Int64"})
    return frame.to_csv(index=False, lineterminator="\n")


def _of(answer: Answer | None, name: str) -> tuple[float | None, Judged | None] | None:
    """A number by its name without the data's, and what each item contributes to it."""
    if answer is None:
        return None
    metrics: Mapping[str, float | None] = answer.evaluation.metrics
    for full, value in metrics.items():
        if full.partition("@")[0] == name:
            return value, answer.evaluation.judged.get(full)
    return None


def _names(answer: Answer | None) -> list[str]:
    """Without the data's name, those of the paper first."""
    if answer is None:
        return []
    known = numbers(answer.evaluation.protocol)
    found = {name.partition("@")[0] for name in answer.evaluation.metrics}
    return [name for name in known if name in found] + sorted(found - set(known))


def _sha256(answer: Answer | None) -> str | None:
    made = answer and answer.evaluation
    return made.weights.sha256 if isinstance(made, WeightsEvaluation) else None


def _state(one: Outcome) -> str:
    if one.answer is None:
        return "failed"
    return "kept" if one.answer.kept else "new"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
