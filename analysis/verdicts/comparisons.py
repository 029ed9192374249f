"""Cells against each other: differences, contrasts and ratios, paired by seed and tested.

A margin or bound other than "no difference" is in points of the paper's protocol; at any other
protocol it is not judged, since differences in points do not transfer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.evidence.frame import Evidence, resolve, resolve_metric, resolve_row, row_distance
from analysis.evidence.stats import Estimate, estimate, format_p, mean_interval, paired
from analysis.verdicts.verdict import SEEDS_NEEDED
from repro.harness.experiments.missing import Missing

CONFIRMED, CONTRADICTED, UNDECIDED, TESTED = "confirmed", "contradicted", "undecided", "tested"
NOT_RUN, TOO_FEW, NOT_JUDGED = "not run", "too few seeds", "not judged at this scale"


@dataclass(frozen=True)
class Part:
    """One row or step; `missing` maps what has no number to the reason, where it is NOT_RUN.

    TESTED ones await Holm: p to confirm and p to contradict, both at 5 %. `gap` is what they rest
    on, above 0 where it speaks for the claim (in logarithms for a `ratio`); of an equivalence it is
    the difference itself, and `margin` is set. `flips` says when the other parts would turn.
    """

    status: str
    detail: str = ""
    missing: Mapping[str, Missing] = field(default_factory=dict)
    n: int = 0
    p_for: float = 1.0
    p_against: float = 1.0
    gap: Estimate | None = None
    margin: float | None = None
    ratio: bool = False
    flips: str = ""


DOES_NOT_TRANSFER = "a margin in points does not transfer to a protocol that is not the paper's"


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells (or, as `ratio`, of their logarithms) between two bounds.

    Bounds are those of the sum, or of the ratio itself.
    """

    terms: Mapping[str, float]
    above: float | None
    below: float | None
    ratio: bool = False

    def __str__(self) -> str:
        if self.ratio:
            over, under = self.terms
            return f"{over} / {under}"
        words = [f"{'-' if w < 0 else '+'} {_weight(w)}{a}" for a, w in self.terms.items()]
        return " ".join(words).removeprefix("+ ")

    @property
    def transfers(self) -> bool:
        """Whether the bounds say "no difference", which means the same at any scale."""
        return all(b in (None, 1 if self.ratio else 0) for b in (self.above, self.below))

    def value(self, cells: Mapping[str, float]) -> float:
        if self.ratio:
            return math.exp(sum(w * math.log(cells[a]) for a, w in self.terms.items()))
        return sum(w * cells[a] for a, w in self.terms.items())


def contrasts(kind: str, body: Mapping[str, Any]) -> Iterator[Contrast]:
    """A claim of kind contrast, ratio or smaller_gap as contrasts that must all hold."""
    bounds = (body.get("above"), body.get("below"))
    if kind == "contrast":
        yield Contrast(body["terms"], *bounds)
    elif kind == "ratio":
        yield Contrast({body["over"]: 1, body["under"]: -1}, *bounds, ratio=True)
    else:
        assert kind == "smaller_gap", f"claim kind '{kind}' is no contrast"
        high, low = body["high"], body["low"]
        for a in body["rows"]:
            for b in body["than"]:
                terms = {f"{a}.{high}": 1, f"{a}.{low}": -1, f"{b}.{high}": -1, f"{b}.{low}": 1}
                yield Contrast(terms, None, 0.0)


def judge_contrast(contrast: Contrast, evidence: Evidence) -> Part:
    cells = list(contrast.terms)
    if not contrast.transfers and far_from_the_paper(cells, evidence):
        return Part(NOT_JUDGED, f"{contrast}: {DOES_NOT_TRANSFER}")
    if missing := missing_cells(cells, evidence):
        return Part(NOT_RUN, missing=missing)
    values = {a: resolve(a, evidence).values for a in cells}
    seeds = sorted(set.intersection(*(set(v) for v in values.values())))
    by_seed = {s: contrast.value({a: v[s] for a, v in values.items()}) for s in seeds}
    sentence = describe_seeds(
        str(contrast), by_seed, resolve_metric(cells[0], evidence).decimals + 1
    )
    if len(seeds) < SEEDS_NEEDED:
        return Part(TOO_FEW, sentence, n=len(seeds))
    scale = math.log if contrast.ratio else float
    value = estimate([scale(v) for v in by_seed.values()])
    gaps = []
    if contrast.above is not None:
        gaps.append(value.shifted(-scale(contrast.above)))
    if contrast.below is not None:
        gaps.append(value.negative().shifted(scale(contrast.below)))
    closest = min(gaps, key=lambda gap: gap.mean)
    p_for = max(_two_sided(gap.p_above()) for gap in gaps)
    p_against = min(1.0, len(gaps) * min(_two_sided(gap.p_below()) for gap in gaps))
    return replace(_tested(sentence, closest, p_for, p_against), ratio=contrast.ratio)


def judge_step(better: str, worse: str, margin: float, evidence: Evidence) -> Part:
    if missing := missing_cells([better, worse], evidence):
        return Part(NOT_RUN, missing=missing)
    values, sentence = _differences(better, worse, evidence)
    if len(values) < SEEDS_NEEDED:
        return Part(TOO_FEW, sentence, n=len(values))
    gap = estimate(values).shifted(margin)
    part = _tested(sentence, gap, _two_sided(gap.p_above()), _two_sided(gap.p_below()))
    return replace(part, detail=f"{part.detail} against a margin of {margin:g}") if margin else part


def judge_close(a: str, b: str, margin: float, evidence: Evidence) -> Part:
    if far_from_the_paper([a, b], evidence):
        return Part(NOT_JUDGED, f"{a} - {b}: {DOES_NOT_TRANSFER}")
    if missing := missing_cells([a, b], evidence):
        return Part(NOT_RUN, missing=missing)
    values, sentence = _differences(a, b, evidence)
    if len(values) < SEEDS_NEEDED:
        return Part(TOO_FEW, sentence, n=len(values))
    gap = estimate(values)
    p_for = max(gap.p_above(-margin), gap.p_below(margin))
    p_against = _two_sided(min(gap.p_above(margin), gap.p_below(-margin)))
    sentence += f", equivalence within {margin:g}: {format_p(p_for)}"
    return Part(TESTED, sentence, {}, gap.n, p_for, p_against, gap, margin)


def sensitivity(part: Part, step: int, alpha: float) -> str:
    """At which margin the verdict on a tested part would turn, Holm multiplying its p by `step`."""
    gap = part.gap
    if gap is None or part.status != TESTED:
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


def _tested(sentence: str, gap: Estimate, p_for: float, p_against: float) -> Part:
    sentence += f", {format_p(min(p_for, p_against))}"
    return Part(TESTED, sentence, n=gap.n, p_for=p_for, p_against=p_against, gap=gap)


def far_from_the_paper(cells: Sequence[str], evidence: Evidence) -> bool:
    """Whether any of the cells rests on a protocol other than the paper's."""
    for address in cells:
        experiment, row = resolve_row(address.rpartition(".")[0], evidence)
        variant = resolve_metric(address, evidence).variant
        trained = not row.why_not(evidence.scale)
        if trained and row_distance(experiment, row, evidence.scale, variant):
            return True
    return False


def missing_cells(cells: Sequence[str], evidence: Evidence) -> dict[str, Missing]:
    """What keeps cells from being compared: the row where it has no runs, else the cell."""
    reasons: dict[str, Missing] = {}
    for address in cells:
        row_address = address.rpartition(".")[0]
        _, row = resolve_row(row_address, evidence)
        if why := row.why_not(evidence.scale):
            reasons[row_address] = why
        elif why := resolve(address, evidence).missing:
            reasons[address] = why
    return reasons


def _differences(a: str, b: str, evidence: Evidence) -> tuple[list[float], str]:
    differences = paired(resolve(a, evidence).values, resolve(b, evidence).values)
    digits = resolve_metric(a, evidence).decimals + 1
    return list(differences.values()), describe_seeds(f"{a} - {b}", differences, digits)


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
