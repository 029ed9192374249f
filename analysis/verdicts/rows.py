"""Claims on rows: every run of a row says yes or no, and all seeds must say the same.

With 3 seeds, yes in all of them confirms, in none contradicts, mixed is undecided. Of a row with
variants each variant is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.verdicts.verdict import SEEDS_NEEDED, Judgement, Part, Status, all_of
from repro.harness.experiments.claims import OfRows
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN
from repro.harness.runs.records import NotMeasured, Record

B = TypeVar("B", bound=OfRows)


@dataclass(frozen=True)
class Observation:
    """What one run says, and the numbers that this rests on, by name."""

    holds: bool
    numbers: Mapping[str, str]


def by_seed(
    observe: Callable[[B, Record], Observation],
    *,
    turns: Callable[[B, Sequence[Record]], str] | None = None,
    unless: Callable[[B, Sequence[Record]], bool] | None = None,
) -> Callable[[B, Evidence], list[Part]]:
    """How our records are judged.

    Args:
        turns: what would turn the verdict, in words.
        unless: seeds that all say no contradict the claim unless this is so.
    """

    def judged(
        body: B, name: str, runs: Mapping[int, Record], observed: Mapping[int, Observation]
    ) -> Part:
        records = [runs[seed] for seed in observed]
        part = unanimous(name, observed, undecided=unless is not None and unless(body, records))
        return replace(part, flips=turns(body, records)) if turns else part

    def ours(body: B, evidence: Evidence) -> list[Part]:
        parts = []
        for address in body.rows:
            row = evidence.row(address)
            for variant in row.experiment.runs_a_row:
                name = f"{address}.{variant}" if variant else address
                made = row.runs(variant)
                observed = observations(body, made, observe)
                if observed:
                    parts.append(judged(body, name, made, observed))
                else:
                    why = NOT_MEASURED if made else row.missing or NOT_RUN
                    parts.append(Part(Status.NOT_RUN, name=name, missing={name: why}))
        return parts

    return ours


def observations(
    body: B, runs: Mapping[int, Record], observe: Callable[[B, Record], Observation]
) -> dict[int, Observation]:
    """By seed; a run without the number says nothing, for or against."""
    observed = {}
    for seed, run in runs.items():
        with suppress(NotMeasured):
            observed[seed] = observe(body, run)
    return observed


def by_row(
    printed: Callable[[B, MeasuredRow], Judgement],
) -> Callable[[B, Evidence], Judgement]:
    """How the paper's numbers are judged."""

    def judge(body: B, evidence: Evidence) -> Judgement:
        judgements = []
        for address in body.rows:
            judgement = printed(body, evidence.row(address))
            judgements.append(replace(judgement, numbers=f"{address}: {judgement.numbers}"))
        return all_of(judgements)

    return judge


def unanimous(name: str, observed: Mapping[int, Observation], undecided: bool = False) -> Part:
    """Yes in all seeds confirms, in none contradicts, unless told that this is undecided."""
    each = list(observed.values())
    yes = sum(one.holds for one in each)
    seeds = ", ".join(map(str, observed))
    names = each[0].numbers if each else {}
    numbers = "; ".join(
        f"{what} {', '.join(one.numbers.get(what, '-') for one in each)}" for what in names
    )
    detail = f"{name} {yes} of {len(observed)} seeds (seeds {seeds}: {numbers})"
    status = Status.UNDECIDED
    if len(observed) < SEEDS_NEEDED:
        status = Status.TOO_FEW
    elif yes == len(observed):
        status = Status.CONFIRMED
    elif not yes and not undecided:
        status = Status.CONTRADICTED
    leaning = {0: False, len(observed): True}.get(yes) if observed else None
    return Part(status, detail, name, n=len(observed), leaning=leaning)
