"""What a kind of claim means: how our records are judged by it, and how the paper's own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from analysis.evidence.frame import Evidence
from analysis.evidence.stats import Estimate
from analysis.verdicts.verdict import Outcome
from repro.harness.experiments.claims import Body
from repro.harness.experiments.missing import Missing

if TYPE_CHECKING:
    from analysis.verdicts.comparisons import Comparison

B = TypeVar("B", bound=Body)


class Status(StrEnum):
    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    TESTED = "tested"  # awaits Holm
    NOT_RUN = "not run"
    TOO_FEW = "too few seeds"
    NOT_JUDGED = "not judged at this scale"


@dataclass(frozen=True)
class Part:
    """One row or comparison of a claim; all of them must hold.

    `missing` maps what has no number to the reason, where it is NOT_RUN. TESTED ones have a p to
    confirm and a p to contradict, both at 5 %. `gap` is what they rest on, above 0 where it speaks
    for the claim (of a ratio in logarithms); of an equivalence it is the difference itself, and
    `margin` is set. `flips` says when the others would turn.
    """

    status: Status
    detail: str = ""
    name: str = ""
    missing: Mapping[str, Missing] = field(default_factory=dict)
    n: int = 0
    p_for: float = 1.0
    p_against: float = 1.0
    gap: Estimate | None = None
    margin: float | None = None
    flips: str = ""


@dataclass(frozen=True)
class Judgement:
    """Whether printed numbers support a claim (None: nothing is printed), and which they are."""

    holds: bool | None
    numbers: str


def all_of(judgements: Sequence[Judgement]) -> Judgement:
    """One that fails is enough to fail, one without numbers to leave the rest open."""
    each = [judgement.holds for judgement in judgements]
    holds = False if False in each else None if None in each else True
    return Judgement(holds, "; ".join(judgement.numbers for judgement in judgements))


def no_comparisons(_body: Body) -> Sequence[Comparison]:
    return ()


@dataclass(frozen=True)
class Meaning(Generic[B]):
    """`rule` in words, `ours` judges our records, `printed` the paper's numbers.

    `comparisons` are what is tested between cells: they are planned before runs are made, and Holm
    counts the claims that have any. `confirmed` is the verdict on a claim that holds.
    """

    rule: str
    ours: Callable[[B, Evidence], list[Part]]
    printed: Callable[[B, Evidence], Judgement]
    comparisons: Callable[[B], Sequence[Comparison]] = no_comparisons
    confirmed: Outcome = Outcome.CONFIRMED
