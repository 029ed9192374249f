"""Every kind of claim: the one place where its meaning is put together.

A shape (`repro/harness/experiments/claims.py`) has a rule in words, the statements that it makes of
our runs, and its judgement on printed numbers. Verdict, p, power and what would turn it all follow
from the statements (`statement.py`), so nothing else has to know a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product, zip_longest
from typing import Any, Generic, TypeVar

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import Measured
from analysis.evidence.model import Table
from analysis.verdicts import curves, outputs
from analysis.verdicts.comparisons import (
    Comparison,
    Difference,
    Equivalence,
    Nearer,
    WeightedSum,
)
from analysis.verdicts.outputs import by_row
from analysis.verdicts.statement import Statement
from analysis.verdicts.verdict import Judgement, Outcome, all_of
from repro.harness.experiments import claims as shapes
from repro.harness.experiments.claims import AllOf, Body, ClaimBody
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN

B = TypeVar("B", bound=Body)
ALL_HOLD = "all parts hold"


@dataclass(frozen=True)
class Kind(Generic[B]):
    """`comparisons` are what is compared between cells, where it is; `confirmed` is the verdict on
    a claim that holds."""

    rule: str
    statements: Callable[[B, Measured], list[Statement]]
    printed: Callable[[B, Evidence], Judgement]
    comparisons: Callable[[B], Sequence[Comparison]] = lambda _body: ()
    confirmed: Outcome = Outcome.CONFIRMED


def _greater(body: shapes.Greater) -> list[Comparison]:
    return [Difference(body.better, body.worse, body.by)]


def _no_worse(body: shapes.NoWorse) -> list[Comparison]:
    return [Difference(body.better, body.worse, -body.margin, ties_hold=True)]


def _best(body: shapes.Best) -> list[Comparison]:
    return [Difference(body.best, other) for other in body.among]


def _order(body: shapes.Order) -> list[Comparison]:
    return [Difference(better, worse) for better, worse in pairwise(body.order)]


def _close(body: shapes.Close) -> list[Comparison]:
    return [Equivalence(body.a, body.b, body.margin)]


def _contrast(body: shapes.Contrast) -> list[Comparison]:
    return [WeightedSum(body.terms, body.above, body.below)]


def _ratio(body: shapes.Ratio) -> list[Comparison]:
    return [WeightedSum({body.over: 1, body.under: -1}, body.above, body.below, factor=True)]


def _smaller_gap(body: shapes.SmallerGap) -> list[Comparison]:
    high, low = body.high, body.low
    return [
        Nearer(f"{a}.{high}", f"{a}.{low}", f"{b}.{high}", f"{b}.{low}")
        for a, b in product(body.rows, body.than)
    ]


def _comparing(rule: str, compared: Callable[[B], Sequence[Comparison]]) -> Kind[B]:
    def statements(body: B, measured: Measured) -> list[Statement]:
        return [one.statement(measured) for one in compared(body)]

    def printed(body: B, evidence: Evidence) -> Judgement:
        return all_of([one.printed(evidence) for one in compared(body)])

    return Kind(rule, statements, printed, compared)


KINDS: Mapping[type[Body], Kind[Any]] = {
    shapes.Collapse: Kind(
        "mean over seeds of KL below 0.05 nats and of h/ln K above 0.95 (uniform) or below 0.05 "
        "(one dimension); in any form: or of the information on the image below 0.01 ln K",
        outputs.collapse,
        by_row(outputs.printed_collapse),
        confirmed=Outcome.EXPECTED_COLLAPSE,
    ),
    shapes.NoCollapse: Kind(
        "mean over seeds outside the limits of every form of collapse",
        outputs.no_collapse,
        by_row(outputs.printed_work),
    ),
    shapes.UniformLoss: Kind(
        "mean loss within 5 % of ln K", outputs.uniform_loss, by_row(outputs.printed_chance)
    ),
    shapes.Healthy: Kind(
        "mean over seeds of KL above 0.05 nats and of h/ln K between 0.05 and 0.95",
        outputs.healthy,
        by_row(outputs.printed_health),
    ),
    shapes.Decomposition: Kind(
        "|H - (h + KL)| < 1e-4 max(1, H) at every step of every run",
        outputs.decomposition,
        outputs.not_numeric,
    ),
    shapes.Fails: Kind(
        "k-NN gains, over random initialisation, less than half of what the healthy row gains",
        outputs.fails,
        by_row(outputs.printed_chance),
    ),
    shapes.Works: Kind(
        "k-NN gains, over random initialisation, more than half of what the healthy row gains",
        outputs.works,
        by_row(outputs.printed_work),
    ),
    shapes.Tokens: Kind(
        "(resolution / patch)^2 + 1 in every run", outputs.tokens, by_row(outputs.printed_tokens)
    ),
    shapes.RiseAndFall: Kind(
        "means over seeds: h starts above 0.9 ln K and falls; KL is at some point inside above "
        "both of its ends",
        curves.rise_and_fall,
        by_row(curves.printed_rise_and_fall),
    ),
    shapes.CurveAbove: Kind(
        "mean over seeds above at every evaluation",
        curves.curve_above,
        by_row(curves.printed_curve_above),
    ),
    shapes.PeakAndDecline: Kind(
        "mean over seeds at some evaluation above that at the end",
        curves.peak_and_decline,
        by_row(curves.printed_peak_and_decline),
    ),
    shapes.CurveCrosses: Kind(
        "mean over seeds above at first and below at last",
        curves.curve_crosses,
        curves.printed_crossing,
    ),
    shapes.Greater: _comparing("difference above 0, or above what it is to be", _greater),
    shapes.NoWorse: _comparing("difference above minus the margin", _no_worse),
    shapes.Best: _comparing("every difference above 0", _best),
    shapes.Order: _comparing("every step's difference above 0", _order),
    shapes.Close: _comparing(
        "difference within the margin (two one-sided tests), at protocol distance zero",
        _close,
    ),
    shapes.Contrast: _comparing("weighted sum on the right side of its limits", _contrast),
    shapes.Ratio: _comparing("logarithm of the ratio on the right side of its limits", _ratio),
    shapes.SmallerGap: _comparing("every gap smaller in size than every other", _smaller_gap),
}


def statements_of(body: ClaimBody, measured: Measured) -> list[Statement]:
    """What our records say of a claim's rows and comparisons, all of which must hold."""
    return [s for one in body.parts() for s in KINDS[type(one)].statements(one, measured)]


@dataclass(frozen=True)
class Expected:
    """A statement as it will be tested once its rows have been run; `means` are the paper's numbers
    for the rows that have not. Without an expression nothing is known of them."""

    statement: Statement
    means: Mapping[tuple[Table, str], float] = field(default_factory=dict)


def expected_of(body: ClaimBody, measured: Measured) -> list[Expected]:
    """The statements of a claim, those of cells also where they have not been measured."""
    found = []
    for one in body.parts():
        kind = KINDS[type(one)]
        statements, compared = kind.statements(one, measured), kind.comparisons(one)
        for statement, comparison in zip_longest(statements, compared):
            means = None
            if comparison and set(statement.missing.values()) & {NOT_RUN, NOT_MEASURED}:
                means = comparison.printed_means(measured)
            if means is None:
                found.append(Expected(statement))
            else:
                expression = comparison.expression(measured)
                found.append(Expected(replace(statement, expression=expression), means))
    return found


def printed(body: ClaimBody, evidence: Evidence) -> Judgement:
    """What the printed numbers say of a claim."""
    return all_of([KINDS[type(one)].printed(one, evidence) for one in body.parts()])


def comparisons_of(body: ClaimBody) -> list[Comparison]:
    """What is compared between cells."""
    return [compared for one in body.parts() for compared in KINDS[type(one)].comparisons(one)]


def rule_of(body: ClaimBody) -> str:
    rules = dict.fromkeys(KINDS[type(one)].rule for one in body.parts())
    return f"{ALL_HOLD}: {'; '.join(rules)}" if isinstance(body, AllOf) else "; ".join(rules)


def confirmed_as(body: ClaimBody) -> Outcome:
    """The verdict on a claim that holds: a collapse where every part is one."""
    outcomes = {KINDS[type(one)].confirmed for one in body.parts()}
    return outcomes.pop() if len(outcomes) == 1 else Outcome.CONFIRMED
