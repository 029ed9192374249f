"""Verdicts on the claims of an experiment file, on our records or on the paper's own numbers.

A claim with several rows or comparisons (its parts, `kinds.py`) holds when all of them hold. The
rules were fixed before any run; 3 seeds are needed to confirm and to contradict.

p of a claim: the largest of its steps' (all must hold) to confirm, the smallest times their number
to contradict; then Holm over the claims of one experiment. At `smoke` scale nothing is evidence.

Where runs exist but do not carry a metric (e.g. no linear evaluation was made), the parts of a
claim that need it are left out, and the verdict on the others says "(in part)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.evidence.stats import format_p, holm, holm_steps
from analysis.verdicts.comparisons import sensitivity
from analysis.verdicts.kinds import confirmed_as, parts_of, printed, rule_of
from analysis.verdicts.verdict import Outcome, Part, Status, Verdict
from repro.harness.experiments.claims import Claim, ClaimBody, OnPaper
from repro.harness.experiments.experiment import Experiment, select
from repro.harness.experiments.missing import NOT_MEASURED

ALPHA = 0.05
SMOKE = "smoke"
NOTED: Mapping[OnPaper, bool | None] = {"holds": True, "overclaim": False, "not numeric": None}
PRINTED: Mapping[bool | None, Outcome] = {
    True: Outcome.HOLDS,
    False: Outcome.DOES_NOT_HOLD,
    None: Outcome.NOTHING_PRINTED,
}


@dataclass(frozen=True)
class ClaimVerdict:
    """`detail` is the evidence, `rule` how it was judged, `flips` at which margin or threshold the
    verdict would turn, `where` the claim stands in the paper, `on_paper` and `note` whether the
    paper's own numbers bear it out.
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

    @property
    def holds(self) -> bool | None:
        return self.verdict.holds

    def as_json(self) -> dict[str, Any]:
        """Its fields, the verdict in words and whether the claim holds behind it."""
        items: list[tuple[str, Any]] = []
        for key, value in vars(self).items():
            verdict = [(key, str(value)), ("holds", self.holds)]
            items += verdict if key == "verdict" else [(key, value)]
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
    """Every claim of one experiment on our records, with Holm over the claims that were tested."""
    if evidence.scale != SMOKE:
        evidence = evidence.committed
    whole = {claim.id: parts_of(claim.body, evidence) for claim in experiment.claims}
    parts = {name: _measured(its) for name, its in whole.items()}
    p_values = {name: claim_p(its) for name, its in parts.items() if _tested(its)}
    smaller = [min(pair) for pair in p_values.values()]
    adjusted = dict(zip(p_values, holm(smaller), strict=True))
    steps = dict(zip(p_values, holm_steps(smaller), strict=True))
    verdicts = []
    for claim in experiment.claims:
        its, p = parts[claim.id], adjusted.get(claim.id, 1.0)
        verdict = decide(its, p, confirmed_as(claim.body))
        was_run = verdict.outcome is not Outcome.NOT_RUN
        if len(its) < len(whole[claim.id]) and was_run:
            verdict = replace(verdict, in_part=True)
        detail = _detail(whole[claim.id])
        if len(adjusted) > 1 and claim.id in adjusted and was_run:
            detail += f" ({format_p(p)} after Holm over {len(adjusted)} tested claims)"
        if evidence.scale == SMOKE and was_run:
            verdict = Verdict(Outcome.NOT_EVIDENCE)
        flips = _flips(its, steps.get(claim.id, 1)) if was_run else ""
        verdicts.append(_verdict(experiment, claim, verdict, detail, flips))
    return verdicts


def leaning(body: ClaimBody, evidence: Evidence) -> bool | None:
    """Whether all parts that are measured come out as the claim says, in however few seeds; None
    where some say both or nothing and none speaks against it.
    """
    said = [part.leaning for part in _measured(parts_of(body, evidence))]
    return False if False in said else None if None in said else True


def _flips(parts: Sequence[Part], step: int) -> str:
    """What would turn the verdict: of the tested parts the one closest to it, of others each."""
    tested = [part for part in _tested(parts) if part.gap is not None]
    turns = [part.flips for part in parts if part.flips]
    if tested:
        weakest = max(tested, key=lambda part: part.p_for)
        name = f" ({weakest.name})" if len(parts) > 1 else ""
        turns.append(sensitivity(weakest, step, ALPHA) + name)
    return "; ".join(turns)


def _measured(parts: list[Part]) -> list[Part]:
    """Without the parts whose runs exist but lack the metric, unless all of them do."""
    return [part for part in parts if set(part.missing.values()) != {NOT_MEASURED}] or parts


def claim_p(parts: Sequence[Part]) -> tuple[float, float]:
    """p to confirm (every part must hold) and to contradict (one part suffices) a claim."""
    tested = _tested(parts)
    complete = all(part.status in (Status.TESTED, Status.CONFIRMED) for part in parts)
    p_for = max(part.p_for for part in tested) if complete else 1.0
    return p_for, min(1.0, len(tested) * min(part.p_against for part in tested))


def decide(parts: Sequence[Part], holm_p: float, confirmed: Outcome) -> Verdict:
    """The verdict on a claim from its parts and its p after Holm; `confirmed` where it holds."""
    statuses = {part.status for part in parts}
    significant = 0
    if _tested(parts) and holm_p < ALPHA:
        p_for, p_against = claim_p(parts)
        significant = 1 if p_for <= p_against else -1
    if Status.CONTRADICTED in statuses or significant < 0:
        return Verdict(Outcome.CONTRADICTED)
    if Status.NOT_RUN in statuses:
        return Verdict(Outcome.NOT_RUN)
    if Status.TOO_FEW in statuses:
        return Verdict(Outcome.TOO_FEW, _fewest(parts, Status.TOO_FEW))
    if Status.NOT_JUDGED in statuses:
        return Verdict(Outcome.NOT_JUDGED)
    if Status.UNDECIDED in statuses or (Status.TESTED in statuses and not significant):
        return Verdict(Outcome.UNDECIDED, _fewest(parts, Status.UNDECIDED, Status.TESTED))
    return Verdict(confirmed)


def _tested(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.status is Status.TESTED]


def _detail(parts: Sequence[Part]) -> str:
    """One sentence: the numbers of every part, then what has none and why."""
    sentences = [part.detail for part in parts if part.detail]
    missing = {name: why for part in parts for name, why in part.missing.items()}
    if missing:
        listed = ", ".join(f"{name} ({why})" for name, why in missing.items())
        sentences.append(f"missing: {listed}")
    return "; ".join(sentences)


def _fewest(parts: Sequence[Part], *statuses: Status) -> int:
    return min(part.n for part in parts if part.status in statuses)


def _verdict(
    experiment: Experiment,
    claim: Claim,
    verdict: Verdict,
    detail: str,
    flips: str = "",
) -> ClaimVerdict:
    return ClaimVerdict(
        id=claim.id,
        experiment=experiment.id,
        statement=claim.statement,
        verdict=verdict,
        detail=detail,
        rule=rule_of(claim.body),
        flips=flips,
        where=claim.where,
        portability=claim.portability,
        on_paper=claim.on_paper,
        note=claim.note,
    )
