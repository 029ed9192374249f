"""Claims that compare cells of tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, TypeVar

from analysis.evidence.evidence import Evidence
from analysis.verdicts.comparisons import Comparison, Difference, Equivalence, WeightedSum
from analysis.verdicts.meaning import Meaning
from analysis.verdicts.verdict import Judgement, Part, all_of
from repro.harness.experiments.claims import (
    Best,
    Body,
    Close,
    Contrast,
    Greater,
    NoWorse,
    Order,
    Ratio,
    SmallerGap,
)

B = TypeVar("B", bound=Body)


def _compared(rule: str, comparisons: Callable[[B], Sequence[Comparison]]) -> Meaning[B]:
    def ours(body: B, evidence: Evidence) -> list[Part]:
        return [comparison.ours(evidence) for comparison in comparisons(body)]

    def printed(body: B, evidence: Evidence) -> Judgement:
        return all_of([comparison.printed(evidence) for comparison in comparisons(body)])

    return Meaning(rule, ours, printed, comparisons)


def _greater(body: Greater) -> list[Comparison]:
    return [Difference(body.better, body.worse)]


def _no_worse(body: NoWorse) -> list[Comparison]:
    return [Difference(body.better, body.worse, body.margin)]


def _best(body: Best) -> list[Comparison]:
    return [Difference(body.best, other) for other in body.among]


def _order(body: Order) -> list[Comparison]:
    return [Difference(better, worse) for better, worse in pairwise(body.order)]


def _close(body: Close) -> list[Comparison]:
    return [Equivalence(body.a, body.b, body.margin)]


def _contrast(body: Contrast) -> list[Comparison]:
    return [WeightedSum(body.terms, body.above, body.below)]


def _ratio(body: Ratio) -> list[Comparison]:
    return [WeightedSum({body.over: 1, body.under: -1}, body.above, body.below, ratio=True)]


def _smaller_gap(body: SmallerGap) -> list[Comparison]:
    high, low = body.high, body.low
    gaps: list[Comparison] = []
    for a, b in product(body.rows, body.than):
        terms = {f"{a}.{high}": 1, f"{a}.{low}": -1, f"{b}.{high}": -1, f"{b}.{low}": 1}
        gaps.append(WeightedSum(terms, None, 0))
    return gaps


MEANINGS: Mapping[type[Body], Meaning[Any]] = {
    Greater: _compared("95 % interval of the paired difference on one side of 0", _greater),
    NoWorse: _compared("95 % interval of the paired difference on one side of -margin", _no_worse),
    Best: _compared("95 % interval of every paired difference on one side of 0", _best),
    Order: _compared("95 % interval of every step's paired difference on one side of 0", _order),
    Close: _compared("TOST at 5 %, at protocol distance zero", _close),
    Contrast: _compared(
        "95 % interval of the weighted sum, paired by seed, on one side of its bound", _contrast
    ),
    Ratio: _compared(
        "95 % interval of the logarithm of the ratio on one side of its bound", _ratio
    ),
    SmallerGap: _compared("95 % interval of every difference of gaps below 0", _smaller_gap),
}
