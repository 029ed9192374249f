"""All claims of the paper are one family: the chance that any verdict of a scale is false.

Hypotheses are the claims' statements. The same runs asked the same thing are one of them, in
whatever claim or table they stand, so one comparison has one verdict and counts once. Their number
is fixed before any run: what this scale can test once every row has been run, so that a missing
measurement confirms nothing. Holm's procedure (1979) then keeps the chance of a false confirmation
or contradiction at `ALPHA`; everything it decides has p below one level, ALPHA over the number of
those that remain open. Intervals of all of them hold together at ALPHA over their whole number: at
the level of Holm's last step they would not, where many are decided.

Experiments that are not of the paper are a family each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from weakref import WeakKeyDictionary

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import Measured
from analysis.verdicts.kinds import statements_of
from analysis.verdicts.statement import P, Statement
from analysis.verdicts.verdict import SEEDS_NEEDED
from repro.harness.experiments.experiment import Experiment
from repro.harness.experiments.missing import NOT_MEASURED, STOPPED, TO_COME

ALPHA = 0.05


class Status(StrEnum):
    """Of one statement."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    TOO_FEW = "too few seeds"
    NOT_MEASURED = "not measured"
    NOT_RUN = "not run"
    NOT_JUDGED = "not judged at this scale"


@dataclass(frozen=True)
class Family:
    """`level` is what p of a statement must be below to decide it, `size` how many there are."""

    measured: Measured
    statements: Mapping[str, Sequence[Statement]]  # by claim
    size: int
    decided: int
    level: float

    def status(self, statement: Statement) -> Status:
        if statement.not_judged:
            return Status.NOT_JUDGED
        if statement.expression is None:
            unmeasured = set(statement.missing.values()) <= {NOT_MEASURED, STOPPED}
            return Status.NOT_MEASURED if unmeasured else Status.NOT_RUN
        p = statement.expression.p
        if statement.chance and statement.n < SEEDS_NEEDED:
            return Status.TOO_FEW
        if p.contradicting < self.level:
            return Status.CONTRADICTED
        if statement.n < SEEDS_NEEDED:
            return Status.TOO_FEW
        if p.confirming < self.level and not statement.partial:
            return Status.CONFIRMED
        return Status.UNDECIDED

    @property
    def simultaneous(self) -> float:
        """The level of each of the intervals that hold together."""
        return ALPHA / self.size

    def decided_beside(self, some: Sequence[Statement]) -> int:
        """How many are decided that are not among these."""
        keys = {one.key for one in some}
        p = {s.key: _p(s) for its in self.statements.values() for s in its if _counts(s)}
        return sum(value < self.level for key, value in p.items() if key not in keys)


_FAMILIES: WeakKeyDictionary[Evidence, dict[tuple[str, ...], Family]] = WeakKeyDictionary()


def family_of(experiment: Experiment, evidence: Evidence) -> Family:
    """That in which the claims of an experiment are judged; found once a body of evidence."""
    members = evidence.judged_with(experiment)
    if not any(one.claims == experiment.claims for one in members):  # other claims than the file's
        others = (one for one in members if one.path != experiment.path)
        return _family([experiment, *others], evidence)
    known = _FAMILIES.setdefault(evidence, {})
    names = tuple(str(one.path) for one in members)
    if names not in known:
        known[names] = _family(members, evidence)
    return known[names]


def _family(members: Sequence[Experiment], evidence: Evidence) -> Family:
    measured = Measured(evidence, members)
    statements = {
        claim.id: statements_of(claim.body, measured) for one in members for claim in one.claims
    }
    tested = {s.key: s for its in statements.values() for s in its if _counts(s)}
    size = max(1, len(tested))
    p_values = sorted(map(_p, tested.values()))
    decided = 0
    while decided < len(p_values) and p_values[decided] < ALPHA / (size - decided):
        decided += 1
    return Family(measured, statements, size, decided, ALPHA / max(1, size - decided))


def _p(statement: Statement) -> float:
    """The smaller one; 1 where it is not tested yet."""
    if statement.expression is None or statement.n < SEEDS_NEEDED:
        return 1.0
    return float(min(statement.expression.p))


def _counts(statement: Statement) -> bool:
    """Whether it is tested at this scale once its rows have been run."""
    if statement.not_judged or not statement.chance:
        return False
    return set(statement.missing.values()) <= TO_COME


def adjusted(p: P, family: Family) -> float:
    """The smaller p after Holm: below `ALPHA` exactly where the statement is decided."""
    return min(1.0, float(min(p)) * ALPHA / family.level)
