"""How many seeds decide a claim: `repro plan C.T7.4 --power`, before core-hours are spent.

The tables that a claim rests on are drawn again with n seeds in each of its rows, with the means
and spreads seen so far, and judged by the very functions that judge real ones, by Holm's steps
among as many hypotheses as the other claims leave open now. What is printed is the share of draws
in which the claim is confirmed, or contradicted. Kinds need nothing for this: they are statements.

Rows that have not been run have the paper's numbers for means, and the pooled spread of their
table. Nothing can be said where neither is known: of outputs and curves of rows nobody has run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import median

import numpy as np
import numpy.typing as npt

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import cell_of
from analysis.evidence.model import Table
from analysis.evidence.rows import PAPER
from analysis.verdicts.cells import ExpectedCell, expected_cells
from analysis.verdicts.claims import TIED_TO_SCALE
from analysis.verdicts.family import ALPHA, family_of
from analysis.verdicts.kinds import expected_of
from analysis.verdicts.statement import Bound, Expression, Frequency, P, Statement, p_of_count
from analysis.verdicts.verdict import SEEDS_NEEDED
from repro.harness.experiments.claims import Claim
from repro.harness.experiments.experiment import Experiment
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN
from repro.harness.runs.records import Record
from repro.terminal import count, print_table, print_text

POWER = 0.8
MOST = 100  # seeds; more will never be run
DRAWS = 1_000
STAIRS = (3, 5, 8, 10, 20, 50, 100)  # seeds
SAMPLING = 0.5  # spread of a table of which nothing is known, points: honest repetitions of DINO
NOTHING_TESTED = "nothing of it is a test at this scale"
NOTHING_KNOWN = "nothing is known of rows that it needs"


@dataclass(frozen=True)
class Chances:
    """Shares of repetitions in which a claim is decided."""

    confirmed: float
    contradicted: float

    @property
    def decided(self) -> float:
        return self.confirmed + self.contradicted

    def told(self, otherwise: str) -> str:
        """The larger share; `otherwise` is how a verdict against the claim reads."""
        word = "confirmed" if self.confirmed >= self.contradicted else otherwise
        return f"{100 * max(self.confirmed, self.contradicted):.0f} % {word}"


@dataclass(frozen=True)
class Planned:
    """What more seeds would do to one claim.

    `needed` is None where no number of seeds up to `MOST` is enough; the missing ones cost
    `more_runs` and `more_minutes` of a core (or a GPU). `otherwise` is how a verdict against it
    reads, `why_not` says why nothing can be said.
    """

    claim: str
    statement: str
    seeds: int
    with_three: Chances | None = None
    needed: int | None = None
    then: Chances | None = None
    more_runs: int = 0
    more_minutes: float = 0.0
    otherwise: str = "contradicted"
    why_not: str = ""


@dataclass(eq=False)
class Redrawn:
    """Tables drawn again: `rows` of each with n seeds, all others with those that they have."""

    n: int
    rows: Mapping[Table, Mapping[str, float | None]]  # with their means, where these are not seen
    draws: int
    random: np.random.Generator
    tables: dict[Table, Table] = field(default_factory=dict)

    def judged(self, expression: Expression) -> P:
        if isinstance(expression, Frequency):
            rate = (expression.yes + 0.5) / (expression.n + 1)
            return p_of_count(self.random.binomial(self.n, rate, self.draws), self.n)
        return expression.judge(self._tested)

    def _tested(self, bound: Bound) -> P:
        terms = tuple((self.table(table), weights) for table, weights in bound.terms)
        drawn = replace(bound, terms=terms)
        return drawn.tested(drawn.estimate)

    def table(self, table: Table) -> Table:
        if table not in self.tables:
            self.tables[table] = self._drawn(table)
        return self.tables[table]

    def _drawn(self, table: Table) -> Table:
        common = _common(table)
        most = max([self.n, *(len(v) for v in table.values.values())])
        shared = self.random.normal(0, math.sqrt(common), (most, self.draws))
        asked, values = self.rows[table], {}
        for row in sorted({*table.values, *asked}):
            mean = asked.get(row)
            mean = float(table.mean(row)) if mean is None else mean
            n = self.n if row in asked else len(table.values[row])
            apart, variance = row in table.apart, _variance(table, row)
            own = variance if apart else max(variance - common, 0.0)
            noise = self.random.normal(0, math.sqrt(own), (n, self.draws))
            drawn = mean + noise + (0 if apart else shared[:n])
            values[row] = dict(enumerate(drawn))
        return replace(table, values=values)


def _variance(table: Table, row: str) -> float:
    value = float(table.moderated(row).value)
    return SAMPLING**2 if math.isnan(value) else value


def _common(table: Table) -> float:
    """The part of the variance that all rows of a seed have in common."""
    return float(table.fit.common) if table.fit else 0.0


def chances(
    statements: Sequence[Statement],
    left: int,
    n: int,
    means: Mapping[tuple[Table, str], float],
    draws: int = DRAWS,
) -> Chances:
    """Of all statements of a claim, with n seeds in every row.

    Args:
        left: how many hypotheses are open, those of the claim among them.
    """
    rows: dict[Table, dict[str, float | None]] = {}
    for statement in statements:
        assert statement.expression is not None, f"{statement.name} has no numbers"
        for bound in statement.expression.bounds():
            for table, weights in bound.terms:
                seen = rows.setdefault(table, {})
                seen |= {row: means.get((table, row)) for row in weights}
    redrawn = Redrawn(n, rows, draws, np.random.default_rng(n))
    each, tested = [], {}
    for statement in statements:
        assert statement.expression is not None, f"{statement.name} has no numbers"
        each.append(redrawn.judged(statement.expression))
        tested[statement.key] = each[-1]
    level = _levels(list(tested.values()), left)
    confirmed = np.all([np.less(p.confirming, level) for p in each], axis=0)
    contradicted = np.any([np.less(p.contradicting, level) for p in each], axis=0)
    return Chances(float(confirmed.mean()), float((contradicted & ~confirmed).mean()))


def _levels(tested: Sequence[P], left: int) -> npt.NDArray[np.float64]:
    """What p must be below to be decided, in each draw: Holm's steps, as `family.py` takes them."""
    least = np.sort([np.minimum(p.confirming, p.contradicting) for p in tested], axis=0)
    steps = (left - np.arange(len(tested)))[:, None]
    decided = np.logical_and.accumulate(least < ALPHA / steps, axis=0).sum(axis=0)
    return np.asarray(ALPHA / np.maximum(1, left - decided))


def seeds_needed(power: Callable[[int], float], target: float = POWER) -> int | None:
    """The fewest seeds, at least 3, with which `power(n)` reaches the target."""
    low, high = SEEDS_NEEDED, SEEDS_NEEDED
    while power(high) < target:
        if high == MOST:
            return None
        low, high = high + 1, min(2 * high, MOST)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= target else (middle + 1, high)
    return low


def plan_claim(claim: Claim, experiment: Experiment, evidence: Evidence) -> Planned:
    """What more seeds would do to one claim, in the family in which it is judged."""
    evidence = evidence.committed
    family = family_of(experiment, evidence)
    expected = expected_of(claim.body, family.measured)
    runs = _runs(claim, evidence)
    seeds = min((len(its) for its in runs.values()), default=0)
    planned = Planned(claim.id, claim.statement, seeds)
    if claim.portability in TIED_TO_SCALE and evidence.scale != PAPER:
        planned = replace(planned, otherwise="not shown here")
    if why := _why_not([one.statement for one in expected]):
        return replace(planned, why_not=why)
    tested = [one.statement for one in expected if one.statement.chance]
    means = {key: mean for one in expected for key, mean in one.means.items()}
    left = family.size - family.decided_beside(tested)

    @cache
    def with_seeds(n: int) -> Chances:
        return chances(tested, left, n, means)

    needed = seeds_needed(lambda n: with_seeds(n).decided)
    more = {} if needed is None else {i: max(0, needed - len(its)) for i, its in runs.items()}
    usual = _minutes(list(evidence.records.values()))
    return replace(
        planned,
        with_three=with_seeds(SEEDS_NEEDED),
        needed=needed,
        then=None if needed is None else with_seeds(needed),
        more_runs=sum(more.values()),
        more_minutes=sum(n * (_minutes(runs[i]) or usual) for i, n in more.items()),
    )


def plan_power(experiment: Experiment, evidence: Evidence) -> list[Planned]:
    """Every claim of one experiment, then its cells against the paper's numbers."""
    claims = [plan_claim(claim, experiment, evidence) for claim in experiment.claims]
    cells = expected_cells(experiment, evidence)
    return claims + [_cell(cell, len(cells)) for cell in cells]


def _cell(cell: ExpectedCell, left: int) -> Planned:
    """Equivalence with the paper's number, if there is no difference."""

    @cache
    def with_seeds(n: int) -> Chances:
        return chances([cell.statement], left, n, {})

    needed = seeds_needed(lambda n: with_seeds(n).confirmed)
    then = None if needed is None else with_seeds(needed)
    return Planned("", cell.statement.name, cell.seeds, with_seeds(SEEDS_NEEDED), needed, then)


def _why_not(statements: Sequence[Statement]) -> str:
    if reasons := [s.not_judged for s in statements if s.not_judged]:
        return reasons[0]
    for statement in statements:
        barred = [why for why in statement.missing.values() if why not in (NOT_RUN, NOT_MEASURED)]
        if barred:
            return str(barred[0])
    if any(statement.expression is None for statement in statements):
        return NOTHING_KNOWN
    return "" if any(statement.chance for statement in statements) else NOTHING_TESTED


def _runs(claim: Claim, evidence: Evidence) -> dict[str, list[Record]]:
    """Those that a claim rests on, by the row that they are of."""
    rows = [
        (row, variant)
        for row in map(evidence.row, claim.body.row_addresses())
        for variant in row.experiment.runs_a_row
    ]
    for row, metric in (cell_of(evidence, address) for address in claim.body.cell_addresses()):
        columns = [row.experiment.metric(key) for key in metric.difference] or [metric]
        rows += [(row, column.variant) for column in columns]
    trained = [(row, variant) for row, variant in rows if not row.missing]
    return {row.identity(variant): list(row.runs(variant).values()) for row, variant in trained}


def _minutes(runs: Sequence[Record]) -> float:
    """Of one core, or one GPU, for a run with its evaluations."""
    each = []
    for run in runs:
        seconds = run.times.wall_seconds or 0.0
        seconds += sum(one.wall_seconds or 0.0 for one in run.evaluations.values())
        hardware = run.env.hardware
        cores = 1 if hardware is None or hardware.gpu else hardware.threads
        each.append(seconds * cores / 60)
    return median(each) if each else 0.0


def print_power(planned: Sequence[Planned], title: str) -> None:
    """A line a claim, and what deciding all that can be decided would cost."""
    rows = [
        (
            p.claim or "cell",
            str(p.seeds),
            p.with_three.told(p.otherwise) if p.with_three else "",
            _needed(p),
            f"{p.more_runs} in {p.more_minutes:.0f} min" if p.more_runs else "",
            p.why_not or p.statement,
        )
        for p in planned
    ]
    head = ("claim", "seeds", f"with {SEEDS_NEEDED}", "needed", "further runs", "statement")
    print_table(f"{title}: seeds that decide it in {100 * POWER:.0f} % of repetitions", head, rows)
    reached: dict[int, int] = {}
    for n in STAIRS:
        many = sum(p.needed is not None and p.needed <= n for p in planned)
        if many not in (0, *reached.values()):
            reached[n] = many
    each = ", ".join(f"{many} with {n} seeds" for n, many in reached.items())
    print_text(f"Of {count(len(planned), 'line')} decided: {each or 'none'}.")


def _needed(p: Planned) -> str:
    if p.why_not:
        return ""
    return f"{p.needed}: {p.then.told(p.otherwise)}" if p.then else f"more than {MOST}"
