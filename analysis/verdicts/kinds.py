"""Every kind of claim with its meaning.

One more kind is its shape in `repro/harness/experiments/claims.py` and its meaning in one of the
modules that are joined here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.evidence.evidence import Evidence
from analysis.verdicts import between_cells, curves, outputs
from analysis.verdicts.comparisons import Comparison
from analysis.verdicts.meaning import Meaning
from analysis.verdicts.verdict import Judgement, Outcome, Part, all_of
from repro.harness.experiments.claims import AllOf, Body, ClaimBody

KINDS: Mapping[type[Body], Meaning[Any]] = {
    **outputs.MEANINGS,
    **curves.MEANINGS,
    **between_cells.MEANINGS,
}
ALL_HOLD = "all parts hold"


def parts_of(body: ClaimBody, evidence: Evidence) -> list[Part]:
    """What our records say of a claim's rows and comparisons, all of which must hold."""
    return [part for one in body.parts() for part in KINDS[type(one)].ours(one, evidence)]


def printed(body: ClaimBody, evidence: Evidence) -> Judgement:
    """What the printed numbers say of a claim."""
    return all_of([KINDS[type(one)].printed(one, evidence) for one in body.parts()])


def comparisons_of(body: ClaimBody) -> list[Comparison]:
    """What is tested between cells."""
    return [compared for one in body.parts() for compared in KINDS[type(one)].comparisons(one)]


def rule_of(body: ClaimBody) -> str:
    rules = dict.fromkeys(KINDS[type(one)].rule for one in body.parts())
    return f"{ALL_HOLD}: {'; '.join(rules)}" if isinstance(body, AllOf) else "; ".join(rules)


def confirmed_as(body: ClaimBody) -> Outcome:
    """The verdict on a claim that holds."""
    return Outcome.CONFIRMED if isinstance(body, AllOf) else KINDS[type(body)].confirmed
