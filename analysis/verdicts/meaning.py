"""What a kind of claim means: how our records are judged by it, and how the paper's own numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from analysis.evidence.evidence import Evidence
from analysis.verdicts.comparisons import Comparison
from analysis.verdicts.verdict import Judgement, Outcome, Part
from repro.harness.experiments.claims import Body

B = TypeVar("B", bound=Body)


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
