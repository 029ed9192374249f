"""Verdicts on the claims of an experiment file, on our records or on the paper's own numbers.

A claim holds when all of its statements hold, and fails when one of them does. Each is decided in
the family of all claims of the paper (`family.py`), from three seeds on. Where a statement has no
numbers, since nobody made the measurement, the others cannot confirm the claim: it is open "in
part". What only shows in small gaps, or on ImageNet, cannot be contradicted by a scale that has
neither: it "does not show" there. At `smoke` scale nothing is evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.evidence.stats import format_p
from analysis.verdicts.confounds import Confound, confounds
from analysis.verdicts.family import Family, Status, adjusted, family_of
from analysis.verdicts.kinds import confirmed_as, printed, rule_of
from analysis.verdicts.statement import Statement
from analysis.verdicts.verdict import Outcome, Verdict
from repro.harness.experiments.claims import Claim, OnPaper
from repro.harness.experiments.experiment import Experiment, select

SMOKE = "smoke"
NOTED = {"holds": True, "overclaim": False, "not numeric": None}
PRINTED = {True: Outcome.HOLDS, False: Outcome.DOES_NOT_HOLD, None: Outcome.NOTHING_PRINTED}
TIED_TO_SCALE = ("S", "I")  # portability: small gaps, and ImageNet, hardware, others' networks


@dataclass(frozen=True)
class ClaimVerdict:
    """`detail` is the evidence, `rule` how it was judged, `flips` at which margin or threshold the
    verdict would turn, `where` the claim stands in the paper, `on_paper` and `note` whether the
    paper's own numbers bear it out, `confounds` in what else the compared rows differ. `level` is
    that of its simultaneous intervals, `seeds_needed` about how many would decide it if means and
    spreads stay as they are (`repro plan --power` says it more exactly).
    """

    id: str
    experiment: str
    statement: str
    verdict: Verdict
    detail: str
    rule: str
    flips: str
    where: str
    portability: str
    on_paper: OnPaper
    note: str
    confounds: tuple[Confound, ...] = ()
    level: float = 0.05
    seeds_needed: int | None = None
    statements: Sequence[Statement] = field(default=(), repr=False)

    @property
    def holds(self) -> bool | None:
        return self.verdict.holds

    def as_json(self) -> dict[str, Any]:
        """Its fields, the verdict in words and whether the claim holds behind it."""
        items: list[tuple[str, Any]] = []
        for key, value in vars(self).items():
            if key == "verdict":
                items += [(key, str(value)), ("holds", self.holds)]
            elif key == "confounds":
                items.append((key, [str(one) for one in value]))
            elif key != "statements":
                items.append((key, value))
        return dict(items)


def check(ids: Sequence[str], evidence: Evidence | None) -> list[ClaimVerdict]:
    """Verdicts on every claim of the experiments `ids`, on our records or on the reported numbers.

    Args:
        evidence: our records; None for the paper's own numbers.

    Raises:
        UserError: an unknown experiment.
    """
    judge_all = judge_reported if evidence is None else judge_ours
    evidence = Evidence(PAPER, {}) if evidence is None else evidence
    return [v for experiment, _ in select(ids) for v in judge_all(experiment, evidence)]


def judge_reported(experiment: Experiment, evidence: Evidence) -> list[ClaimVerdict]:
    """Every claim of one experiment on the paper's printed numbers, against what is noted there."""
    verdicts = []
    for claim in experiment.claims:
        judgement = printed(claim.body, evidence)
        holds = judgement.holds
        verdict = Verdict(PRINTED[holds])
        if holds != NOTED[claim.on_paper]:
            verdict = replace(verdict, noted_as=claim.on_paper)
        elif holds is False:
            verdict = Verdict(Outcome.OVERCLAIM)
        verdicts.append(_verdict(experiment, claim, verdict, judgement.numbers))
    return verdicts


def judge_ours(experiment: Experiment, evidence: Evidence) -> list[ClaimVerdict]:
    """Every claim of one experiment on our records, in the family of all of the paper's."""
    if evidence.scale != SMOKE:
        evidence = evidence.committed
    family = family_of(experiment, evidence)
    verdicts = []
    for claim in experiment.claims:
        statements = family.statements[claim.id]
        verdict = decide(claim, statements, family, evidence.scale)
        was_run = verdict.outcome is not Outcome.NOT_RUN
        if evidence.scale == SMOKE and was_run:
            verdict = Verdict(Outcome.NOT_EVIDENCE)
        found = _verdict(experiment, claim, verdict, _detail(statements, family))
        verdicts.append(
            replace(
                found,
                flips=_flips(statements, family) if was_run else "",
                confounds=confounds(claim, evidence),
                level=family.simultaneous,
                seeds_needed=_needed(statements, family.level) if was_run else None,
                statements=statements,
            )
        )
    return verdicts


def decide(claim: Claim, statements: Sequence[Statement], family: Family, scale: str) -> Verdict:
    """The verdict on a claim from those on its statements."""
    status = [family.status(statement) for statement in statements]
    measured = [s for s, found in zip(statements, status, strict=True) if s.expression is not None]
    in_part = Status.NOT_MEASURED in status and bool(measured)
    if Status.CONTRADICTED in status:
        if scale != PAPER and claim.portability in TIED_TO_SCALE:
            return Verdict(Outcome.NOT_SHOWN)
        return Verdict(Outcome.CONTRADICTED)
    if Status.NOT_RUN in status or (Status.NOT_MEASURED in status and not measured):
        return Verdict(Outcome.NOT_RUN)
    if Status.TOO_FEW in status:
        return Verdict(Outcome.TOO_FEW, min(s.n for s in measured), in_part=in_part)
    if Status.NOT_JUDGED in status:
        return Verdict(Outcome.NOT_JUDGED)
    if Status.UNDECIDED in status or in_part:
        return Verdict(Outcome.UNDECIDED, min(s.n for s in measured), in_part=in_part)
    return Verdict(confirmed_as(claim.body))


def leaning(verdict: ClaimVerdict) -> bool | None:
    """Whether all statements that are measured come out as the claim says, in however few seeds;
    None where seeds say both and nothing speaks against it, or nothing is measured."""
    said = [s.leans for s in verdict.statements if s.expression is not None]
    return False if False in said else None if None in said or not said else True


def _detail(statements: Sequence[Statement], family: Family) -> str:
    """One sentence: the numbers of every statement, then what has none and why."""
    told = [statement.words(family.simultaneous) for statement in statements]
    sentences = [sentence for sentence in told if sentence]
    missing = {name: why for s in statements for name, why in s.missing.items()}
    if missing:
        listed = ", ".join(f"{name} ({why})" for name, why in missing.items())
        sentences.append(f"missing: {listed}")
    tested = [s for s in statements if s.expression is not None and s.chance]
    if tested and family.size > 1:
        weakest = _weakest(tested, family)
        assert weakest.expression is not None
        p = format_p(adjusted(weakest.expression.p, family))
        whose = f" of {weakest.name}" if len(tested) > 1 else ""
        sentences.append(f"{p}{whose} among the {family.size} that are tested at this scale")
    return "; ".join(sentences)


def _weakest(tested: Sequence[Statement], family: Family) -> Statement:
    """The statement that the verdict hangs on: one that is contradicted, else the least shown."""

    def rank(statement: Statement) -> tuple[bool, float]:
        assert statement.expression is not None
        p = statement.expression.p
        against = family.status(statement) is Status.CONTRADICTED
        return (not against, float(p.contradicting) if against else -float(p.confirming))

    return min(tested, key=rank)


def _flips(statements: Sequence[Statement], family: Family) -> str:
    """What would turn the verdict: of the statement that it hangs on, at which limits."""
    tested = [s for s in statements if s.expression is not None and s.chance]
    if not tested:
        return ""
    weakest = _weakest(tested, family)
    assert weakest.expression is not None
    turns = dict.fromkeys(bound.turns(family.level) for bound in weakest.expression.bounds())
    return "; ".join(turn for turn in list(turns)[:2] if turn)


def _needed(statements: Sequence[Statement], level: float) -> int | None:
    """Every statement must be confirmed; one that is contradicted is enough."""
    tested = [statement.needed(level) for statement in statements if statement.chance]
    confirming = [n for n, _ in tested if n is not None]
    contradicting = [n for _, n in tested if n is not None]
    whole = [max(confirming)] if tested and len(confirming) == len(tested) else []
    return min([*whole, *contradicting], default=None)


def _verdict(experiment: Experiment, claim: Claim, verdict: Verdict, detail: str) -> ClaimVerdict:
    return ClaimVerdict(
        id=claim.id,
        experiment=experiment.id,
        statement=claim.statement,
        verdict=verdict,
        detail=detail,
        rule=rule_of(claim.body),
        flips="",
        where=claim.where,
        portability=claim.portability,
        on_paper=claim.on_paper,
        note=claim.note,
    )
