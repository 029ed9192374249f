"""What some runs reproduce of the paper, in three sentences: what comes out as it says, what comes
out otherwise, and how far that is a verdict.

A direction needs one seed, a verdict three; so the sentences of few runs say what is seen and
that more seeds may change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from analysis.evidence.evidence import Evidence
from analysis.verdicts.claims import SMOKE, ClaimVerdict, judge_ours, leaning
from analysis.verdicts.verdict import SEEDS_NEEDED, Outcome
from repro.harness.experiments.experiment import Experiment
from repro.terminal import count

MUTE = (Outcome.NOT_RUN, Outcome.NOT_JUDGED)  # claims that the runs cannot speak to
STATEMENT = 64  # characters of one
NAMED = 3  # experiments that are named, rather than counted


def in_words(experiments: Sequence[Experiment], evidence: Evidence) -> list[str]:
    """The three sentences on all claims of some experiments; one more where code is uncommitted."""
    if evidence.scale == SMOKE:
        made = count(_runs(experiments, evidence), "run")
        return [f"At smoke scale nothing is evidence: {made} made, no claim is judged."]
    told = _sentences(experiments, evidence.committed)
    if dirty := _runs(experiments, evidence) - _runs(experiments, evidence.committed):
        further = count(dirty, "run")
        told.append(f"No claim rests on {further} made by code that was not committed.")
    return told


def _sentences(experiments: Sequence[Experiment], evidence: Evidence) -> list[str]:
    made = count(_runs(experiments, evidence), "run")
    verdicts = [v for one in experiments for v in judge_ours(one, evidence)]
    seen = [v for v in verdicts if v.verdict.outcome not in MUTE]
    if not seen:
        return [f"{made} of {_names(experiments)}: no claim can be judged by them."]
    leans = {v.id: leaning(v) for v in seen}
    return [
        _as_said(seen, [v for v in seen if leans[v.id]], f"{_names(experiments)} that {made} here"),
        _otherwise([v for v in seen if not leans[v.id]]),
        _verdicts(seen, len(verdicts) - len(seen), experiments, evidence.scale),
    ]


def _runs(experiments: Sequence[Experiment], evidence: Evidence) -> int:
    rows = [row for one in experiments for row in evidence.rows(one)]
    return len({run.id for row in rows for run in row.all_runs})


def _as_said(seen: Sequence[ClaimVerdict], as_said: Sequence[ClaimVerdict], of: str) -> str:
    listed = f": {', '.join(v.id for v in as_said)}" if as_said else ""
    return (
        f"Reproduced: {len(as_said)} of the {count(len(seen), 'claim')} of {of} can speak to come "
        f"out as the paper says{listed}."
    )


def _otherwise(others: Sequence[ClaimVerdict]) -> str:
    if not others:
        return "Not reproduced: none of them."
    short = {v.id: shorten(v.statement, STATEMENT, placeholder=" …") for v in others}
    listed = "; ".join(f"{name} ({statement})" for name, statement in short.items())
    return f"Not reproduced, or not in every seed: {len(others)}, {listed}."


def _verdicts(
    seen: Sequence[ClaimVerdict], mute: int, experiments: Sequence[Experiment], scale: str
) -> str:
    decided = sum(v.holds is not None for v in seen)
    names = " ".join(one.id for one in experiments)
    more = f"(repro run {names} --scale {scale} --seeds {SEEDS_NEEDED})"
    if decided:
        parts = [f"{decided} of these are verdicts, as {SEEDS_NEEDED} or more seeds decide"]
        if decided < len(seen):
            parts.append(f"{len(seen) - decided} of them need more seeds {more}")
    else:
        parts = [f"None of these is a verdict yet: that takes {SEEDS_NEEDED} seeds {more}"]
    if mute:
        parts.append(f"{count(mute, 'further claim')} need other rows or another scale")
    return f"{'; '.join(parts)}."


def _names(experiments: Sequence[Experiment]) -> str:
    """The paper's names: "Figure 7 and Table 7"."""
    if len(experiments) > NAMED:
        return count(len(experiments), "experiment")
    return " and ".join(one.where.rpartition(", ")[2] for one in experiments)
