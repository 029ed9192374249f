"""Verdicts on the claims of an experiment file, on our records or on the paper's own numbers.

The rules, fixed before any run. A claim with several rows or steps holds when all of them hold.

| kind          | true for one seed when                                                           |
| ------------- | -------------------------------------------------------------------------------- |
| collapse      | final KL < 0.05 nats, and entropy < 0.05 ln K with the entropy of the batch-mean |
|               | target < 0.05 ln K too (one_dimension), or entropy > 0.95 ln K (uniform)         |
| healthy       | final KL > 0.05 nats and 0.05 < entropy / ln K < 0.95                            |
| decomposition | H = h + KL at every step, to 1e-4 of max(1, H)                                   |
| fails         | final teacher k-NN at or below that of the same seed's random initialisation     |
| works         | final teacher k-NN above it, and no collapse in either form (for methods whose   |
|               | outputs are vectors: by the sentinel, which watches their spread)                |
| rise_and_fall | entropy begins above 0.9 ln K and ends lower; KL peaks inside and ends below it  |
| curve_above   | one curve above the other at every evaluation after the fraction `after`         |
| tokens        | (resolution / patch)^2 + 1 tokens enter the network                              |
| peak_and_decline | a curve ends below its maximum                                                |
| curve_crosses | the second curve above the first at the first evaluation after the start, below  |
|               | it at the last one                                                               |

These need 3 seeds: true in all of them confirms, false in all contradicts, mixed is undecided.
(`curve_above` is contradicted only if the mean over seeds is not above everywhere either.)
Of a row with variants each variant is judged.

| kind                    | differences paired by seed (at least 3), in the metric's own unit      |
| ----------------------- | ---------------------------------------------------------------------- |
| greater, best, order    | every step: 95 % interval above 0 confirms, one below 0 contradicts    |
| no_worse                | the same against -margin instead of 0                                  |
| contrast, smaller_gap   | a weighted sum of cells (a difference of gaps) against its bounds      |
| ratio                   | a ratio of cells against its bounds, on logarithms                     |
| close                   | TOST at 5 % against the spec's margin; only at protocol distance zero, |
|                         | since differences in points do not transfer to another scale; the same |
|                         | for contrasts and ratios with a bound other than "no difference"       |

p of a claim: the largest of its steps' (all must hold) to confirm, the smallest times their number
to contradict; then Holm over the claims of one experiment. At `smoke` scale nothing is evidence.

Where runs exist but do not carry a metric (e.g. no linear evaluation was made), the parts of a
claim that need it are left out, and the verdict on the others says "(in part)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import to_builtins

from analysis.evidence.frame import PAPER, Evidence, load_evidence
from analysis.evidence.stats import format_p, holm, holm_steps
from analysis.verdicts.comparisons import (
    CONFIRMED,
    CONTRADICTED,
    NOT_JUDGED,
    NOT_RUN,
    TESTED,
    TOO_FEW,
    UNDECIDED,
    Part,
    sensitivity,
)
from analysis.verdicts.parts import parts_of
from analysis.verdicts.reported import judge
from analysis.verdicts.verdict import Outcome, Verdict
from repro.errors import UserError
from repro.harness.experiments.claims import Claim, OnPaper
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
RULES = {
    "collapse": "KL < 0.05 nats, h/ln K < 0.05 (one dimension) or > 0.95 (uniform), in every seed",
    "healthy": "KL > 0.05 nats and 0.05 < h/ln K < 0.95, in every seed",
    "decomposition": "|H - (h + KL)| < 1e-4 max(1, H) at every step",
    "fails": "k-NN at or below the same seed's random initialisation, in every seed",
    "works": "k-NN above the same seed's random initialisation and no collapse, in every seed",
    "rise_and_fall": "h starts above 0.9 ln K and falls, KL peaks inside and falls, in every seed",
    "curve_above": "above at every evaluation, in every seed",
    "greater": "95 % interval of the paired difference on one side of 0",
    "best": "95 % interval of every paired difference on one side of 0",
    "order": "95 % interval of every step's paired difference on one side of 0",
    "no_worse": "95 % interval of the paired difference on one side of -margin",
    "close": "TOST at 5 %, at protocol distance zero",
    "all_of": "all parts hold",
    "contrast": "95 % interval of the weighted sum, paired by seed, on one side of its bound",
    "ratio": "95 % interval of the logarithm of the ratio on one side of its bound",
    "smaller_gap": "95 % interval of every difference of gaps below 0",
    "tokens": "(resolution / patch)^2 + 1",
    "peak_and_decline": "the curve ends below its maximum, in every seed",
    "curve_crosses": "above at first and below at last, in every seed",
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


def check(ids: Sequence[str], scale: str, on: str = "ours") -> list[ClaimVerdict]:
    """Verdicts on every claim of the experiments `ids`, on "ours" or "reported" numbers.

    Raises:
        UserError: an unknown experiment, or another word for `on` than "ours" and "reported".
    """
    if on not in ("ours", "reported"):
        raise UserError(f"--on {on}: choose ours or reported")
    evidence = Evidence(PAPER, {}) if on == "reported" else load_evidence(scale)
    judge_all = judge_reported if on == "reported" else judge_ours
    return [v for experiment, _ in select(ids) for v in judge_all(experiment, evidence)]


def judge_reported(experiment: Experiment, evidence: Evidence) -> list[ClaimVerdict]:
    """Every claim of one experiment on the paper's printed numbers, against what is noted there."""
    verdicts = []
    for claim in experiment.claims:
        holds, detail = judge(claim.kind, to_builtins(claim.body), evidence)
        verdict = Verdict(PRINTED[holds])
        if holds != NOTED[claim.on_paper]:
            verdict = replace(verdict, noted_as=claim.on_paper)
        elif holds is False:
            verdict = Verdict(Outcome.OVERCLAIM)
        verdicts.append(_verdict(experiment, claim, verdict, detail))
    return verdicts


def judge_ours(experiment: Experiment, evidence: Evidence) -> list[ClaimVerdict]:
    """Every claim of one experiment on our records, with Holm over the claims that were tested."""
    whole = {
        claim.id: parts_of(claim.kind, to_builtins(claim.body), evidence)
        for claim in experiment.claims
    }
    parts = {name: _measured(its) for name, its in whole.items()}
    p_values = {name: claim_p(its) for name, its in parts.items() if _tested(its)}
    smaller = [min(pair) for pair in p_values.values()]
    adjusted = dict(zip(p_values, holm(smaller), strict=True))
    steps = dict(zip(p_values, holm_steps(smaller), strict=True))
    verdicts = []
    for claim in experiment.claims:
        its, p = parts[claim.id], adjusted.get(claim.id, 1.0)
        verdict = decide(claim.kind, its, p)
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


def _flips(parts: Sequence[Part], step: int) -> str:
    """What would turn the verdict: of the tested parts the one closest to it, of others each."""
    tested = [part for part in _tested(parts) if part.gap is not None]
    said = [part.flips for part in parts if part.flips]
    if tested:
        weakest = max(tested, key=lambda part: part.p_for)
        name = f" ({weakest.detail.partition(' = ')[0]})" if len(parts) > 1 else ""
        said.append(sensitivity(weakest, step, ALPHA) + name)
    return "; ".join(said)


def _measured(parts: list[Part]) -> list[Part]:
    """Without the parts whose runs exist but lack the metric, unless all of them do."""
    return [part for part in parts if set(part.missing.values()) != {NOT_MEASURED}] or parts


def claim_p(parts: Sequence[Part]) -> tuple[float, float]:
    """p to confirm (every part must hold) and to contradict (one part suffices) a claim."""
    tested = _tested(parts)
    complete = all(part.status in (TESTED, CONFIRMED) for part in parts)
    p_for = max(part.p_for for part in tested) if complete else 1.0
    return p_for, min(1.0, len(tested) * min(part.p_against for part in tested))


def decide(kind: str, parts: Sequence[Part], holm_p: float) -> Verdict:
    """The verdict on a claim from its parts and its p after Holm."""
    statuses = {part.status for part in parts}
    significant = 0
    if _tested(parts) and holm_p < ALPHA:
        p_for, p_against = claim_p(parts)
        significant = 1 if p_for <= p_against else -1
    if CONTRADICTED in statuses or significant < 0:
        return Verdict(Outcome.CONTRADICTED)
    if NOT_RUN in statuses:
        return Verdict(Outcome.NOT_RUN)
    if TOO_FEW in statuses:
        return Verdict(Outcome.TOO_FEW, _fewest(parts, TOO_FEW))
    if NOT_JUDGED in statuses:
        return Verdict(Outcome.NOT_JUDGED)
    if UNDECIDED in statuses or (TESTED in statuses and not significant):
        return Verdict(Outcome.UNDECIDED, _fewest(parts, UNDECIDED, TESTED))
    collapses = kind in ("collapse", "fails")
    return Verdict(Outcome.EXPECTED_COLLAPSE if collapses else Outcome.CONFIRMED)


def _rule(kind: str, body: Mapping[str, Any]) -> str:
    if kind != "all_of":
        return RULES[kind]
    parts = dict.fromkeys(_rule(part["kind"], part) for part in body["claims"])
    return f"{RULES[kind]}: {'; '.join(parts)}"


def _tested(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.status == TESTED]


def _detail(parts: Sequence[Part]) -> str:
    """One sentence: the numbers of every part, then what has none and why."""
    said = [part.detail for part in parts if part.detail]
    missing = {name: why for part in parts for name, why in part.missing.items()}
    if missing:
        said.append("missing: " + ", ".join(f"{name} ({why})" for name, why in missing.items()))
    return "; ".join(said)


def _fewest(parts: Sequence[Part], *statuses: str) -> int:
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
        rule=_rule(claim.kind, to_builtins(claim.body)),
        flips=flips,
        where=claim.where,
        portability=claim.portability,
        on_paper=claim.on_paper,
        note=claim.note,
    )
