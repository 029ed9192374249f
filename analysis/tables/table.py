"""An experiment as the paper's own table: its columns, our numbers beside the reported ones.

Every metric is the paper's number, ours, and the difference where both exist and are of a kind;
where others have measured the same, theirs stand beside it. The best number of a column is bold, as
in the paper; of ours where it is the best over the seeds that all rows have, too.
`notes.py` says what stands below a table, `formats.py` writes it down.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import Cell, MeasuredRow
from analysis.evidence.stats import Spread, mean_interval
from analysis.tables.crossed import Crossed, crossed
from analysis.tables.effects import effects
from analysis.tables.notes import notes_of, places_of
from analysis.tables.tidy import is_compared, tidy
from analysis.verdicts.cells import CellVerdict, column_spread, judge_cells
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from analysis.verdicts.verdict import Outcome
from repro.harness.evaluation.names import tier_of
from repro.harness.experiments.claims import Body, OfRows
from repro.harness.experiments.experiment import Experiment, Metric, Row
from repro.harness.experiments.missing import Reason
from repro.harness.experiments.paper import read_paper
from repro.terminal import tick

BLANK, OURS = "-", "ours"
BORROWED = "†"  # behind an interval whose spread is not the row's own
GROUP = "group"  # the layout column that the paper prints as sub-headings
SILENT = (Outcome.NOT_HERE, Outcome.NOT_RUN, Outcome.NOT_MEASURED, Outcome.NOTHING_PRINTED)
HOURS_FROM = 0.5  # shorter times are given in minutes
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
    """A table ready to be written, in the order of the page; a grid also laid out by its axes."""

    title: str
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    notes: list[str]
    claims: list[ClaimVerdict]
    tidy: pd.DataFrame  # the cells as numbers, for csv
    crossed: tuple[Crossed, ...] = ()
    effects: Sequence[str] = ()
    places: Sequence[str] = ()  # of deviations, for the terminal


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
        crossed=crossed(experiment, {key: _texts_of_ours(block) for key, block in blocks.items()}),
        effects=effects(experiment, evidence),
        places=places_of(experiment, evidence),
    )


def _texts_of_ours(block: Mapping[str, Mapping[str, Entry]]) -> dict[str, str]:
    return {
        row: next(entry.text for title, entry in entries.items() if title.startswith(OURS))
        for row, entries in block.items()
    }


def _block(
    experiment: Experiment, metric: Metric, evidence: Evidence
) -> dict[str, dict[str, Entry]]:
    """The columns of one metric, {row: {title: entry}}, every row with the same titles."""
    paper = read_paper()
    column = {row.name: row.cell(metric.key) for row in evidence.rows(experiment)}
    spread = column_spread(experiment, metric, evidence)
    means = {name: c.mean for name, c in column.items() if c.mean is not None}
    shown = _shown(metric, list(means.values()))
    best_reported = _best(
        metric, {n: c.reported for n, c in column.items() if c.reported is not None}
    )
    best_mean = _best(metric, {n: round(m, metric.decimals) for n, m in means.items()})
    best_mean &= _best(metric, _on_common_seeds(column, metric.decimals))
    compared = is_compared(metric, evidence.scale) and any(
        name in means and c.reported is not None for name, c in column.items()
    )
    others = {name: paper.anchors_of(str(c.address)) for name, c in column.items()}
    tier = tier_of(metric.measured)
    block = {}
    for row in experiment.rows:
        c = column[row.name]
        address = c.address.typed if c.values else ""
        reported = BLANK if c.reported is None else f"{c.reported:.{metric.decimals}f}{shown.paper}"
        entries = {
            "paper": Entry(reported, best=row.name in best_reported),
            f"{OURS} ({tier})" if tier else OURS: Entry(
                _ours(c, row, shown, spread), address, best=row.name in best_mean
            ),
        }
        if experiment.grid and not any(c.reported is not None for c in column.values()):
            del entries["paper"]
        if compared:
            both = row.name in means and c.reported is not None
            entries["Δ"] = Entry(
                f"{means[row.name] - (c.reported or 0):+.{metric.decimals}f}" if both else BLANK
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


def _on_common_seeds(column: Mapping[str, Cell], decimals: int) -> dict[str, float]:
    """Means over the seeds that all measured cells of a column have; none where there are none."""
    measured = {name: c.values for name, c in column.items() if c.values}
    seeds = set.intersection(*map(set, measured.values())) if measured else set()
    if not seeds:
        return {}
    return {
        name: round(sum(values[seed] for seed in seeds) / len(seeds), decimals)
        for name, values in measured.items()
    }


@dataclass(frozen=True)
class _Shown:
    """In what our numbers of a column are given; units only where they are not the paper's."""

    decimals: int
    factor: float = 1.0
    ours: str = ""
    paper: str = ""


def _shown(metric: Metric, means: Sequence[float]) -> _Shown:
    if metric.unit == "h" and means and max(means) < HOURS_FROM:
        return _Shown(2, 60.0, " min", " h")
    return _Shown(metric.decimals)


def _ours(c: Cell, row: Row, shown: _Shown, spread: Spread | None) -> str:
    if c.missing:
        if c.missing.reason is Reason.NOT_MEASURED:
            return str(Outcome.NOT_MEASURED)
        return BLANK if row.reported_only else str(c.missing)
    interval = mean_interval(list(c.values.values()), spread=spread)
    seeds = f"({interval.n})" if interval.n > 1 else "(1 seed)"
    mean, half = (
        f"{value * shown.factor:.{shown.decimals}f}"
        for value in (interval.mean, interval.half_width)
    )
    if math.isnan(interval.half_width):  # nothing is known of the spread
        return f"{mean}{shown.ours} {seeds}"
    mark = BORROWED if interval.source else ""
    return f"{mean} ± {half}{mark}{shown.ours} {seeds}"


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
    return "; ".join(parts) or next(map(str, of_cells.values()), "")


def _judged_rows(body: Body) -> tuple[str, ...]:
    return body.rows if isinstance(body, OfRows) else ()
