"""Cells against each other: differences, equivalences and weighted sums, paired by seed and tested.

A margin or bound other than "no difference" is in points of the paper's protocol; at any other
protocol it is not judged, since differences in points do not transfer. Printed numbers are compared
as they are, without intervals: the paper gives one run each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from analysis.evidence.evidence import Evidence
from analysis.evidence.stats import Estimate, estimate, format_p, mean_interval
from analysis.verdicts.verdict import SEEDS_NEEDED, Judgement, Part, Status
from repro.harness.experiments.address import Address
from repro.harness.experiments.missing import Missing

ROUNDING = 1e-9  # 72.8 - 71.8 is not exactly 1.0 in binary
DOES_NOT_TRANSFER = "a margin in points does not transfer to a protocol that is not the paper's"


class Comparison(ABC):
    """A sum of cells, each with its weight, that should lie between two bounds."""

    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Of the cells, by address."""

    def __str__(self) -> str:
        terms = [f"{'-' if w < 0 else '+'} {_weight(w)}{a}" for a, w in self.weights().items()]
        return " ".join(terms).removeprefix("+ ")

    @property
    @abstractmethod
    def question(self) -> str:
        """The sum with its bounds, for a table of what is planned."""

    @property
    @abstractmethod
    def transfers(self) -> bool:
        """Whether the bounds mean the same at any scale: they say "no difference"."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float | None, float | None]:
        """What is to be exceeded and not to be reached, in the unit of `tested`."""

    def value(self, cells: Mapping[str, float]) -> float:
        return sum(weight * cells[address] for address, weight in self.weights().items())

    @property
    def in_logarithms(self) -> bool:
        """Whether that of the value is tested."""
        return False

    def tested(self, value: float) -> float:
        """What is tested of the value."""
        return math.log(value) if self.in_logarithms else float(value)

    def by_seed(self, evidence: Evidence) -> dict[int, float]:
        """The value of every seed that all cells have."""
        values = {address: evidence.cell(address).values for address in self.weights()}
        seeds = sorted(set.intersection(*(set(v) for v in values.values())))
        return {seed: self.value({a: v[seed] for a, v in values.items()}) for seed in seeds}

    def judged_at(self, evidence: Evidence) -> bool:
        """Whether it is tested at this scale, once all of its cells are measured."""
        rows = (evidence.row(Address.of_cell(address)) for address in self.weights())
        if any(row.missing for row in rows):
            return False
        return self.transfers or not far_from_the_paper(self.weights(), evidence)

    def ours(self, evidence: Evidence) -> Part:
        name = str(self)
        if not self.transfers and far_from_the_paper(self.weights(), evidence):
            return Part(Status.NOT_JUDGED, f"{name}: {DOES_NOT_TRANSFER}", name)
        if missing := missing_cells(self.weights(), evidence):
            return Part(Status.NOT_RUN, name=name, missing=missing)
        by_seed = self.by_seed(evidence)
        digits = evidence.metric(next(iter(self.weights()))).decimals + 1
        detail = describe_seeds(name, by_seed, digits)
        tested = [self.tested(value) for value in by_seed.values()]
        leaning = self.between(sum(tested) / len(tested)) if tested else None
        if len(by_seed) < SEEDS_NEEDED:
            return Part(Status.TOO_FEW, detail, name, n=len(by_seed), leaning=leaning)
        part = self.test(estimate(tested))
        return replace(part, detail=f"{detail}{part.detail}", name=name, leaning=leaning)

    def between(self, tested: float) -> bool:
        """Whether what is tested lies between the bounds."""
        above, below = self.bounds
        return (above is None or tested > above) and (below is None or tested < below)

    @abstractmethod
    def test(self, value: Estimate) -> Part:
        """Of what is tested over the seeds."""

    def printed(self, evidence: Evidence) -> Judgement:
        reported = self.reported(evidence)
        for address, value in reported.items():
            if value is None:
                return Judgement(None, f"{address} is not printed")
        return self.of_reported({a: value for a, value in reported.items() if value is not None})

    def reported(self, evidence: Evidence) -> dict[str, float | None]:
        return {address: evidence.cell(address).reported for address in self.weights()}

    @abstractmethod
    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        """Whether it holds on the printed numbers."""


@dataclass(frozen=True)
class Difference(Comparison):
    """One cell above another; with a margin, at most that much below it."""

    better: str
    worse: str
    margin: float | None = None

    def weights(self) -> Mapping[str, float]:
        return {self.better: 1, self.worse: -1}

    @property
    def question(self) -> str:
        return f"{self.better} > {self.worse}"

    @property
    def transfers(self) -> bool:
        return True

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return -(self.margin or 0.0), None

    def test(self, value: Estimate) -> Part:
        gap = value.shifted(self.margin or 0.0)
        part = _tested(gap, _two_sided(gap.p_above()), _two_sided(gap.p_below()))
        against = f" against a margin of {self.margin:g}" if self.margin else ""
        return replace(part, detail=f"{part.detail}{against}")

    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        numbers = f"{self.better} {cells[self.better]:g} against {self.worse} {cells[self.worse]:g}"
        difference = self.value(cells)
        if self.margin is None:
            return Judgement(difference > 0, numbers)
        holds = difference >= -self.margin - ROUNDING
        return Judgement(holds, f"{numbers}, margin {self.margin:g}")


@dataclass(frozen=True)
class Equivalence(Comparison):
    """Two cells within a margin of each other: TOST at 5 %."""

    a: str
    b: str
    margin: float

    def weights(self) -> Mapping[str, float]:
        return {self.a: 1, self.b: -1}

    @property
    def question(self) -> str:
        return f"{self.a} = {self.b}"

    @property
    def transfers(self) -> bool:
        return False

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return -self.margin, self.margin

    def test(self, value: Estimate) -> Part:
        p_for = max(value.p_above(-self.margin), value.p_below(self.margin))
        p_against = _two_sided(min(value.p_above(self.margin), value.p_below(-self.margin)))
        detail = f", equivalence within {self.margin:g}: {format_p(p_for)}"
        return Part(
            Status.TESTED,
            detail,
            n=value.n,
            p_for=p_for,
            p_against=p_against,
            gap=value,
            margin=self.margin,
        )

    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        numbers = f"{self.a} {cells[self.a]:g} and {self.b} {cells[self.b]:g}"
        holds = abs(self.value(cells)) <= self.margin + ROUNDING
        return Judgement(holds, f"{numbers}, margin {self.margin:g}")


@dataclass(frozen=True)
class WeightedSum(Comparison):
    """A sum of cells or, as `ratio`, of their logarithms; its bounds are then the ratio's."""

    terms: Mapping[str, float]
    above: float | None
    below: float | None
    ratio: bool = False

    def weights(self) -> Mapping[str, float]:
        return self.terms

    def __str__(self) -> str:
        if self.ratio:
            over, under = self.terms
            return f"{over} / {under}"
        return super().__str__()

    @property
    def question(self) -> str:
        if self.above is None:
            return f"{self} < {self.below:g}"
        above = f"{self} > {self.above:g}"
        return above if self.below is None else f"{above}, < {self.below:g}"

    @property
    def transfers(self) -> bool:
        return all(b in (None, 1 if self.ratio else 0) for b in (self.above, self.below))

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        above, below = (b if b is None else self.tested(b) for b in (self.above, self.below))
        return above, below

    def value(self, cells: Mapping[str, float]) -> float:
        if self.ratio:
            return math.exp(sum(w * math.log(cells[a]) for a, w in self.terms.items()))
        return super().value(cells)

    @property
    def in_logarithms(self) -> bool:
        return self.ratio

    def test(self, value: Estimate) -> Part:
        above, below = self.bounds
        gaps = [] if above is None else [value.shifted(-above)]
        gaps += [] if below is None else [value.negative().shifted(below)]
        p_for = max(_two_sided(gap.p_above()) for gap in gaps)
        p_against = min(1.0, len(gaps) * min(_two_sided(gap.p_below()) for gap in gaps))
        return _tested(min(gaps, key=lambda gap: gap.mean), p_for, p_against)

    def of_reported(self, cells: Mapping[str, float]) -> Judgement:
        value = self.value(cells)
        # A bound of the paper's own wording ("2-4 %") includes its ends; "more" does not.
        slack = -ROUNDING if self.transfers else ROUNDING
        holds = self.above is None or value > self.above - slack
        holds = holds and (self.below is None or value < self.below + slack)
        return Judgement(holds, f"{self} = {value:.4g}")


def sensitivity(part: Part, step: int, alpha: float) -> str:
    """At which margin the verdict on a tested part would turn, Holm multiplying its p by `step`."""
    gap = part.gap
    if gap is None or part.status is not Status.TESTED:
        return part.flips
    level = alpha / step
    if part.margin is not None:
        needed = max(abs(gap.bound(level)), abs(gap.bound(1 - level)))
        return f"equivalent at any margin from {needed:.3g}"
    low, high = gap.bound(level / 2), gap.bound(1 - level / 2)
    if low > 0:
        return f"holds up to a demanded gap of {low:.3g}"
    if high < 0:
        return f"contradicted unless a gap of {high:.3g} is allowed"
    return (
        f"confirmed if a gap of {low:.3g} is allowed, contradicted if one of {high:.3g} is demanded"
    )


def _two_sided(p: float) -> float:
    """Doubled: a 95 % interval leaves 2.5 % on either side."""
    return min(1.0, 2 * p)


def _tested(gap: Estimate, p_for: float, p_against: float) -> Part:
    detail = f", {format_p(min(p_for, p_against))}"
    return Part(Status.TESTED, detail, n=gap.n, p_for=p_for, p_against=p_against, gap=gap)


def far_from_the_paper(cells: Iterable[str], evidence: Evidence) -> bool:
    """Whether any of the cells rests on a protocol other than the paper's."""
    for address in cells:
        row, metric = evidence.row(Address.of_cell(address)), evidence.metric(address)
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
    return reasons


def describe_seeds(name: str, by_seed: Mapping[int, float], digits: int) -> str:
    """Mean, interval, n and seeds of a quantity, in words."""
    values, seeds = list(by_seed.values()), ", ".join(map(str, by_seed))
    if not values:
        return f"{name}: no seed in common"
    interval = mean_interval(values)
    sentence = f"{name} = {interval.mean:+.{digits}f}"
    if len(values) > 1:
        sentence += f" (95 % interval {interval.low:.{digits}f} to {interval.high:.{digits}f})"
    return f"{sentence}, n = {len(values)} (seeds {seeds})"


def _weight(weight: float) -> str:
    return "" if abs(weight) == 1 else f"{abs(weight):g} x "
