"""What can be said of a claim, of a part of it or of a cell, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SEEDS_NEEDED = 3  # below that nothing is confirmed and nothing contradicted


class Outcome(StrEnum):
    """Of claims on our records, of claims on the paper's numbers, and of cells."""

    CONFIRMED = "direction confirmed"
    EXPECTED_COLLAPSE = "expected collapse"
    CONTRADICTED = "direction contradicted"
    NOT_SHOWN = "does not show at this scale"
    UNDECIDED = "undecided"
    TOO_FEW = "too few seeds"
    NOT_JUDGED = "not judged at this scale"
    NOT_RUN = "not run"
    NOT_EVIDENCE = "not evidence (smoke)"

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    OVERCLAIM = "overclaim, as noted"
    NOTHING_PRINTED = "nothing printed"

    REPRODUCED = "reproduced"
    REPRODUCED_ABOVE = "reproduced+"
    CONSISTENT = "consistent (underpowered)"
    DIFFERS = "differs"
    INVALID = "invalid"
    NOT_HERE = "n/a at this scale"
    NOT_MEASURED = "not measured"
    NO_MARGIN = "not judged"


HOLDS: dict[Outcome, bool] = {
    Outcome.CONFIRMED: True,
    Outcome.EXPECTED_COLLAPSE: True,
    Outcome.CONTRADICTED: False,
    Outcome.HOLDS: True,
    Outcome.DOES_NOT_HOLD: False,
    Outcome.OVERCLAIM: False,
}


@dataclass(frozen=True)
class Verdict:
    """`str()` gives it in words.

    `seeds` are those that there are, where they were too few or did not decide. `in_part`: some
    part of the claim was not measured. `noted_as`: what the experiment file says of the paper's
    numbers, where they say otherwise.
    """

    outcome: Outcome
    seeds: int = 0
    in_part: bool = False
    noted_as: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether a claim does; None where the evidence does not decide, and of cells."""
        return HOLDS.get(self.outcome)

    def __str__(self) -> str:
        text = str(self.outcome)
        if self.outcome is Outcome.TOO_FEW:
            text = f"{self.seeds} of {SEEDS_NEEDED} seeds"
        elif self.outcome is Outcome.UNDECIDED:
            text = f"{self.outcome} at {self.seeds} seeds"
        if self.in_part:
            text += " (in part)"
        return f"{text}, but noted as: {self.noted_as}" if self.noted_as else text


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
