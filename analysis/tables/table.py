"""An experiment as the paper's own table: its columns, our numbers beside the reported ones.

Every metric is the paper's number, ours, and the difference where both exist; where others have
measured the same, theirs stand beside it. The best number of a column is bold, as in the paper.
`notes.py` says what stands below a table, `formats.py` writes it down.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product

import pandas as pd

from analysis.evidence.evidence import Evidence
from analysis.evidence.frames import cells
from analysis.evidence.rows import PAPER, Cell, MeasuredRow
from analysis.evidence.stats import Spread, mean_interval
from analysis.tables.notes import notes_of
from analysis.verdicts.cells import CellVerdict, column_spread, judge_cells
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from analysis.verdicts.verdict import Outcome
from repro.harness.evaluation.names import tier_of
from repro.harness.experiments.claims import Body, OfRows
from repro.harness.experiments.experiment import Experiment, Metric, Row
from repro.harness.experiments.missing import Reason
from repro.harness.experiments.paper import read_paper
from repro.terminal import tick

BLANK = "-"
BORROWED = "†"  # behind an interval whose spread is not the row's own
GROUP = "group"  # the layout column that the paper prints as sub-headings
SILENT = (Outcome.NOT_HERE, Outcome.NOT_RUN, Outcome.NOT_MEASURED, Outcome.NOTHING_PRINTED)
LARGER_IS_BETTER = ("%",)  # units of columns in which the paper prints the best number bold


@dataclass(frozen=True)
class Heading:
    """A column; those of one metric share `over`, which is empty for descriptive columns."""

    over: str
    title: str


@dataclass(frozen=True)
class Entry:
    """One printed cell; `address` (T7:r2:knn) where a measured cell stands behind it."""

    text: str
    address: str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One row; `group` is the sub-heading that it stands under, if any."""

    row: str
    group: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Printed:
    """A table ready to be written, in the order of the page."""

    title: str
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    notes: list[str]
    claims: list[ClaimVerdict]
    tidy: pd.DataFrame  # the cells as numbers, for csv


def build(experiment: Experiment, evidence: Evidence) -> Printed:
    """Everything that the table of `experiment` says about `evidence`."""
    claims = judge_ours(experiment, evidence)
    verdicts = judge_cells(experiment, evidence)
    described = [c for c in experiment.layout if c.key != GROUP]
    blocks = {m.key: _block(experiment, m, evidence) for m in experiment.metrics}
    headings = [Heading("", column.title) for column in described]
    for metric in experiment.metrics:
        titles = dict.fromkeys(
            title for entries in blocks[metric.key].values() for title in entries
        )
        headings += [Heading(metric.title, title) for title in titles]
    headings += [Heading("", "sentinel"), Heading("", "verdict")]
    lines = []
    for row in evidence.rows(experiment):
        entries = [Entry(tick(row.row.described.get(column.key, ""))) for column in described]
        for metric in experiment.metrics:
            entries += blocks[metric.key][row.name].values()
        entries.append(Entry(_sentinel(row)))
        entries.append(Entry(_row_verdict(row, claims, verdicts)))
        lines.append(Line(row.name, str(row.row.described.get(GROUP, "")), tuple(entries)))
    return Printed(
        title=f"{experiment.where}: {experiment.title} ({evidence.scale} scale)",
        headings=tuple(headings),
        lines=tuple(lines),
        notes=notes_of(
            experiment, evidence, any(BORROWED in e.text for x in lines for e in x.entries)
        ),
        claims=claims,
        tidy=tidy(experiment, evidence, verdicts),
    )


def _block(
    experiment: Experiment, metric: Metric, evidence: Evidence
) -> dict[str, dict[str, Entry]]:
    """The columns of one metric, {row: {title: entry}}, every row with the same titles."""
    paper = read_paper()
    column = {row.name: row.cell(metric.key) for row in evidence.rows(experiment)}
    spread = column_spread(experiment, metric, evidence)
    # A third of a second matters where runs take minutes.
    digits = 4 if metric.unit == "h" and evidence.scale != PAPER else metric.decimals
    means = {name: c.mean for name, c in column.items() if c.mean is not None}
    best_reported = _best(
        metric, {n: c.reported for n, c in column.items() if c.reported is not None}
    )
    best_mean = _best(metric, {n: round(m, digits) for n, m in means.items()})
    compared = any(name in means and c.reported is not None for name, c in column.items())
    others = {name: paper.anchors_of(str(c.address)) for name, c in column.items()}
    tier = tier_of(metric.measured)
    block = {}
    for row in experiment.rows:
        c = column[row.name]
        address = c.address.typed if c.values else ""
        reported = BLANK if c.reported is None else f"{c.reported:.{metric.decimals}f}"
        entries = {
            "paper": Entry(reported, best=row.name in best_reported),
            f"ours ({tier})" if tier else "ours": Entry(
                _ours(c, row, digits, spread), address, best=row.name in best_mean
            ),
        }
        if compared:
            both = row.name in means and c.reported is not None
            entries["Δ"] = Entry(
                f"{means[row.name] - (c.reported or 0):+.{digits}f}" if both else BLANK
            )
        if any(others.values()):
            theirs = ", ".join(f"{value:.{metric.decimals}f}" for value, _ in others[row.name])
            entries["others"] = Entry(theirs or BLANK)
        block[row.name] = entries
    return block


def _best(metric: Metric, values: dict[str, float]) -> set[str]:
    if metric.unit not in LARGER_IS_BETTER or metric.difference or len(values) < 2:
        return set()
    return {name for name, value in values.items() if value == max(values.values())}


def _ours(c: Cell, row: Row, decimals: int, spread: Spread | None) -> str:
    if c.missing:
        if c.missing.reason is Reason.NOT_MEASURED:
            return str(Outcome.NOT_MEASURED)
        return BLANK if row.reported_only else str(c.missing)
    interval = mean_interval(list(c.values.values()), spread=spread)
    seeds = f"({interval.n})" if interval.n > 1 else "(1 seed)"
    if interval.half_width != interval.half_width:  # NaN: nothing is known of the spread
        return f"{interval.mean:.{decimals}f} {seeds}"
    mark = BORROWED if interval.source else ""
    return f"{interval.mean:.{decimals}f} ± {interval.half_width:.{decimals}f}{mark} {seeds}"


def _sentinel(row: MeasuredRow) -> str:
    states = Counter(run.sentinel.state for run in row.all_runs)
    if len(states) == 1:
        return next(iter(states))
    return ", ".join(f"{state} {n}" for state, n in sorted(states.items())) or BLANK


def _row_verdict(
    row: MeasuredRow,
    claims: list[ClaimVerdict],
    verdicts: dict[tuple[str, str], CellVerdict],
) -> str:
    """Claims on this very row say more than "n/a at this scale"; absolute verdicts come first."""
    if row.missing:
        return str(row.missing)
    of_cells = {m.title: verdicts[row.name, m.key].verdict for m in row.experiment.metrics}
    parts = [f"{title} {v}" for title, v in of_cells.items() if v.outcome not in SILENT]
    by_id = {claim.id: claim for claim in row.experiment.claims}
    address = str(row.address)
    parts += [
        f"{v.id} {v.verdict}"
        for v in claims
        if v.verdict.outcome is not Outcome.NOT_RUN and address in _judged_rows(by_id[v.id].body)
    ]
    return "; ".join(parts) or str(next(iter(of_cells.values())))


def _judged_rows(body: Body) -> tuple[str, ...]:
    return body.rows if isinstance(body, OfRows) else ()


def tidy(
    experiment: Experiment,
    evidence: Evidence,
    verdicts: dict[tuple[str, str], CellVerdict],
) -> pd.DataFrame:
    """One row per cell: reported, ours with its interval, difference, verdict, where from."""
    frame = cells(experiment, evidence)
    spreads = {m.key: column_spread(experiment, m, evidence) for m in experiment.metrics}
    extra = []
    for row, metric in product(evidence.rows(experiment), experiment.metrics):
        cell, clean = row.cell(metric.key), row.clean_cell(metric.key)
        numbers = list(cell.values.values())
        interval = mean_interval(numbers, spread=spreads[metric.key]) if numbers else None
        compared = cell.missing is None or cell.missing.reason is Reason.NOT_MEASURED
        verdict = verdicts[row.name, metric.key]
        extra.append(
            {
                "half_width": interval.half_width if interval else None,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "spread": interval.source or "own" if interval and len(numbers) else "",
                "tier": tier_of(row.source(metric.key)),
                "clean_mean": clean.mean if clean else None,
                "verdict": str(verdict.verdict),
                "rule": verdict.rule,
                "flips": verdict.flips,
                "keys_that_differ": len(row.distance(metric.variant)) if compared else None,
                "source": " ".join(row.row.source),
                "seeds": " ".join(map(str, cell.values)),
            }
        )
    added = pd.DataFrame(extra, index=frame.index)
    frame["difference"] = frame["mean"] - frame["reported"]
    for column in ("values", "runs"):
        frame[column] = [" ".join(str(v) for v in by_seed.values()) for by_seed in frame[column]]
    return pd.concat(
        [frame, added.astype({"half_width": float, "low": float, "high": float})], axis=1
    )
