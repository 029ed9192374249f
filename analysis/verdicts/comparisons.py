"""Claims that compare cells of tables: differences, equivalences and weighted sums.

They are tested by the linear model over all rows that measure the same (`evidence/model.py`).
Quantities such as times and throughputs are compared by their logarithms.

A margin or bound of the paper's own wording is in points of the paper's protocol; at any other
protocol it is not judged, since differences in points do not transfer. The margins that are ours
do: "no worse" allows one point of accuracy and "clearly" demands one, at every scale, since that is
what full repetitions of one recipe vary by (`cells.py`). Printed numbers are compared as they are,
without margins of ours and without intervals: the paper gives one run each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import (
    Measured,
    cell_of,
    ended_early,
    identity_of,
    is_product,
    source_of,
)
from analysis.evidence.model import Table
from analysis.verdicts.statement import All, Bound, Expression, Some, Statement
from analysis.verdicts.verdict import Judgement
from repro.harness.experiments.address import Address
from repro.harness.experiments.missing import STOPPED, Missing

LARGEST = 99.0  # logarithms that are written out
ROUNDING = 1e-9  # 72.8 - 71.8 is not exactly 1.0 in binary
DOES_NOT_TRANSFER = "a margin in points does not transfer to a protocol that is not the paper's"
Terms = tuple[tuple[Table, Mapping[str, float]], ...]
Pattern = tuple[tuple[str, float], ...]  # weights of metrics of the same runs


class Comparison(ABC):
    """A sum of cells, each with its weight, that should lie between two limits."""

    transfers: bool  # whether the limits mean the same at any scale

    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Of the cells, by address."""

    @property
    @abstractmethod
    def limits(self) -> tuple[float | None, float | None]:
        """What is to be exceeded and not to be reached; of a ratio or a product, as a factor."""

    @abstractmethod
    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        """Whether it holds on the printed numbers."""

    sides = 2
    factor = False  # whether cells are multiplied and divided, and limits are of the quotient

    def __str__(self) -> str:
        terms = [f"{'-' if w < 0 else '+'} {_weight(w)}{a}" for a, w in self.weights().items()]
        return " ".join(terms).removeprefix("+ ")

    def value(self, cells: Mapping[str, float]) -> float:
        if self.factor:
            return math.exp(sum(w * math.log(cells[a]) for a, w in self.weights().items()))
        return sum(weight * cells[address] for address, weight in self.weights().items())

    def statement(self, measured: Measured) -> Statement:
        evidence, name = measured.evidence, str(self)
        key = self.key(evidence)
        if not self.transfers and far_from_the_paper(self.weights(), evidence):
            return Statement(name, key, not_judged=DOES_NOT_TRANSFER)
        if missing := missing_cells(self.weights(), evidence):
            return Statement(name, key, missing=missing)
        cells = [evidence.cell(address) for address in self.weights()]
        return Statement(
            name,
            key,
            self.expression(measured),
            seeds=min((tuple(sorted(cell.values)) for cell in cells), key=len),
            partial=diverged(self.weights(), evidence),
        )

    def expression(self, measured: Measured) -> Expression:
        terms, products = self.terms(measured)
        above, below = self.limits
        decimals = measured.evidence.metric(next(iter(self.weights()))).decimals + 1
        shown = _factor if products else _points(decimals, signed=len(self.weights()) > 1)
        bounds = [
            Bound(
                name=str(self),
                terms=terms,
                limit=math.log(limit or 1.0) if products else limit,
                above=is_above,
                shown=shown,
                sides=self.sides,
            )
            for limit, is_above in ((above, True), (below, False))
            if limit is not None
        ]
        return bounds[0] if len(bounds) == 1 else All(tuple(bounds))

    def terms(self, measured: Measured) -> tuple[Terms, bool]:
        """The contrasts that add up to it, and whether they are of logarithms."""
        products = self._of_products(measured.evidence)
        by_pattern: dict[Pattern, dict[str, float]] = {}
        for identity, sources in self._by_runs(measured.evidence).items():
            scale = sources[min(sources)]
            if scale:  # a row compared with itself leaves nothing
                pattern = tuple(sorted((source, w / scale) for source, w in sources.items()))
                by_pattern.setdefault(pattern, {})[identity] = scale
        each = [
            (measured.cells(p[0][0], products) if len(p) == 1 else measured.pattern(p), weights)
            for p, weights in by_pattern.items()
        ]
        return tuple(each), products

    def printed_means(self, measured: Measured) -> dict[tuple[Table, str], float] | None:
        """Of the rows of `terms`, by the paper's numbers; None where one is not printed."""
        evidence = measured.evidence
        printed = self.reported(evidence)
        by_runs: dict[tuple[str, str], float] = {}
        for address, value in printed.items():
            if value is None:
                return None
            row, metric = cell_of(evidence, address)
            by_runs[identity_of(row, metric), source_of(row, metric)] = value
        terms, products = self.terms(measured)
        means = {}
        for table, weights in terms:
            for identity in weights:
                sources = self._by_runs(evidence)[identity]
                scale = sources[min(sources)]
                mean = sum(w / scale * by_runs[identity, source] for source, w in sources.items())
                means[table, identity] = math.log(mean) if products else mean
        return means

    def _by_runs(self, evidence: Evidence) -> dict[str, dict[str, float]]:
        """Weights by the runs that a cell rests on, then by metric."""
        found: dict[str, dict[str, float]] = {}
        for address, weight in self.weights().items():
            row, metric = cell_of(evidence, address)
            sources, source = found.setdefault(identity_of(row, metric), {}), source_of(row, metric)
            sources[source] = sources.get(source, 0) + weight
        return found

    def _of_products(self, evidence: Evidence) -> bool:
        """Whether logarithms are compared."""
        if self.factor:
            return True
        one_over_another = sorted(self.weights().values()) == [-1, 1]
        against_none = self.limits in ((0.0, None), (None, 0.0))
        products = all(is_product(cell_of(evidence, a)[1]) for a in self.weights())
        return one_over_another and against_none and products

    def key(self, evidence: Evidence) -> Hashable:
        """Which runs are asked what; the same whichever of them is called the better one."""
        asked: dict[tuple[str, str], float] = {}
        for address, weight in self.weights().items():
            row, metric = cell_of(evidence, address)
            if row.missing:
                return str(self)
            place = identity_of(row, metric), source_of(row, metric)
            asked[place] = asked.get(place, 0) + weight
        sign = 1 if asked[min(asked)] > 0 else -1
        limits = sorted(sign * limit for limit in self.limits if limit is not None)
        return frozenset((place, sign * w) for place, w in asked.items()), tuple(limits)

    def printed(self, evidence: Evidence) -> Judgement:
        reported = self.reported(evidence)
        for address, value in reported.items():
            if value is None:
                return Judgement(None, f"{address} is not printed")
        return self.of_reported({a: value for a, value in reported.items() if value is not None})

    def reported(self, evidence: Evidence) -> dict[str, float | None]:
        return {address: evidence.cell(address).reported for address in self.weights()}


@dataclass(frozen=True)
class Difference(Comparison):
    """One cell above another: by more than `by`, or, where that is negative, by no less."""

    better: str
    worse: str
    by: float = 0.0
    ties_hold: bool = False  # on printed numbers

    transfers = True

    def weights(self) -> Mapping[str, float]:
        return {self.better: 1, self.worse: -1}

    @property
    def limits(self) -> tuple[float | None, float | None]:
        return self.by, None

    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        numbers = f"{self.better} {cells[self.better]:g} against {self.worse} {cells[self.worse]:g}"
        difference = self.value(cells)
        if self.by > 0:
            return Judgement(difference > self.by - ROUNDING, f"{numbers}, by {self.by:g}")
        return Judgement(difference > (-ROUNDING if self.ties_hold else 0), numbers)


@dataclass(frozen=True)
class Equivalence(Comparison):
    """Two cells within a margin of each other: TOST at 5 %."""

    a: str
    b: str
    margin: float

    transfers = False
    sides = 1

    def weights(self) -> Mapping[str, float]:
        return {self.a: 1, self.b: -1}

    @property
    def limits(self) -> tuple[float | None, float | None]:
        return -self.margin, self.margin

    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        numbers = f"{self.a} {cells[self.a]:g} and {self.b} {cells[self.b]:g}"
        holds = abs(self.value(cells)) <= self.margin + ROUNDING
        return Judgement(holds, f"{numbers}, margin {self.margin:g}")


@dataclass(frozen=True)
class WeightedSum(Comparison):
    """A sum of cells or, as `factor`, of their logarithms; its limits are then the quotient's."""

    cells: Mapping[str, float]
    above: float | None
    below: float | None
    factor: bool = False

    def weights(self) -> Mapping[str, float]:
        return self.cells

    def __str__(self) -> str:
        if self.factor:
            over, under = self.cells
            return f"{over} / {under}"
        return super().__str__()

    @property
    def transfers(self) -> bool:  # type: ignore[override]
        return all(limit in (None, 1 if self.factor else 0) for limit in self.limits)

    @property
    def limits(self) -> tuple[float | None, float | None]:
        return self.above, self.below

    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        value = self.value(cells)
        # A limit of the paper's own wording ("2-4 %") includes its ends; "more" does not.
        slack = -ROUNDING if self.transfers else ROUNDING
        holds = self.above is None or value > self.above - slack
        holds = holds and (self.below is None or value < self.below + slack)
        return Judgement(holds, f"{self} = {value:.4g}")


@dataclass(frozen=True)
class Nearer(Comparison):
    """Two metrics of one row lie less far apart than those of another, whichever is the larger.

    |a| < |b| is (b - a)(b + a) > 0: both factors above zero, or both below.
    """

    high: str
    low: str
    than_high: str
    than_low: str

    transfers = True

    def weights(self) -> Mapping[str, float]:
        return {self.high: 1, self.low: -1, self.than_high: -1, self.than_low: 1}

    def __str__(self) -> str:
        return f"|{self.high} - {self.low}| - |{self.than_high} - {self.than_low}|"

    @property
    def limits(self) -> tuple[float | None, float | None]:
        return None, 0.0

    def value(self, cells: Mapping[str, float]) -> float:
        gap, other = (
            cells[self.high] - cells[self.low],
            cells[self.than_high] - cells[self.than_low],
        )
        return abs(gap) - abs(other)

    def expression(self, measured: Measured) -> Expression:
        gap, other = f"({self.high} - {self.low})", f"({self.than_high} - {self.than_low})"
        decimals = measured.evidence.metric(self.high).decimals + 1
        factors = [
            (
                f"{other} - {gap}",
                {self.than_high: 1, self.than_low: -1, self.high: -1, self.low: 1},
            ),
            (
                f"{other} + {gap}",
                {self.than_high: 1, self.than_low: -1, self.high: 1, self.low: -1},
            ),
        ]
        sums = [(name, WeightedSum(cells, 0.0, None).terms(measured)[0]) for name, cells in factors]
        shown = _points(decimals, signed=True)
        regions = [
            All(tuple(Bound(name, terms, 0.0, above, shown) for name, terms in sums))
            for above in (True, False)
        ]
        return Some(tuple(regions))

    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        value = self.value(cells)
        return Judgement(value < -ROUNDING, f"{self} = {value:.4g}")


def far_from_the_paper(cells: Iterable[str], evidence: Evidence) -> bool:
    """Whether any of the cells rests on a protocol other than the paper's."""
    for row, metric in (cell_of(evidence, address) for address in cells):
        if not row.missing and row.distance(metric.variant):
            return True
    return False


def missing_cells(cells: Iterable[str], evidence: Evidence) -> dict[str, Missing]:
    """What keeps cells from being compared: the row where it has no runs, else the cell."""
    reasons: dict[str, Missing] = {}
    for address in cells:
        row = evidence.row(Address.of_cell(address))
        if row.missing:
            reasons[str(row.address)] = row.missing
        elif why := evidence.cell(address).missing:
            reasons[address] = why
        elif ended_early(row, evidence.metric(address)):
            reasons[address] = STOPPED
    return reasons


def diverged(cells: Iterable[str], evidence: Evidence) -> str:
    """Names rows of which some seeds have no number since they diverged: what is left is a choice
    of the fortunate."""
    rows = []
    for row, metric in (cell_of(evidence, address) for address in cells):
        lost = [s for s, run in row.runs(metric.variant).items() if run.sentinel.state == "nan"]
        if lost:
            rows.append(f"{row.address} diverged in seeds {', '.join(map(str, lost))}")
    return "; ".join(dict.fromkeys(rows))


def _points(decimals: int, signed: bool) -> Callable[[float], str]:
    return lambda value: f"{value:{'+' if signed else ''}.{decimals}f}"


def _factor(logarithm: float) -> str:
    return f"x {math.exp(min(logarithm, LARGEST)):.3g}"


def _weight(weight: float) -> str:
    return "" if abs(weight) == 1 else f"{abs(weight):g} x "
