"""Verdicts on single cells: is our mean the paper's number?

| verdict                   | rule, at protocol distance zero                                    |
| ------------------------- | ------------------------------------------------------------------ |
| reproduced                | TOST at 5 % against the margin, Holm over the experiment's cells   |
| reproduced+               | 95 % interval wholly above reported + margin (still a discrepancy) |
| consistent (underpowered) | reported lies in the 95 % prediction interval of a further seed,   |
|                           | which is at most `WIDEST` margins wide to either side              |
| differs                   | 90 % interval wholly outside reported +- margin                    |
| undecided at n seeds      | none of these                                                      |
| invalid                   | runs whose loss was not finite (at any distance), or made by code  |
|                           | that was not committed                                             |

The first that applies is given: a number that could be a further seed of ours does not differ.
All but one need 3 seeds. With one or two, "consistent (underpowered)" is all that can be said, with
the spread of `column_spread`; otherwise the verdict is "k of 3 seeds".
At any other protocol distance an absolute number means nothing: "n/a at this scale".
Seeds that agree to the last digit vary as counting right answers among the test images does.
The margin is one point of accuracy: the spread of honest full repetitions of DINO. Half a unit of
the last printed digit is added, since the paper's number is rounded.
Throughput is a property of the machine and is never judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import floor_of
from analysis.evidence.model import Table
from analysis.evidence.rows import Cell, MeasuredRow
from analysis.evidence.stats import (
    Interval,
    Spread,
    equivalent_from,
    estimate,
    format_p,
    holm,
    holm_steps,
    mean_interval,
    p_equivalent,
    pooled,
    prediction_interval,
    sampling_floor,
)
from analysis.verdicts.outputs import VALIDATION_IMAGES
from analysis.verdicts.statement import All, Bound, Statement
from analysis.verdicts.verdict import SEEDS_NEEDED, Outcome, Verdict
from repro.harness.experiments.experiment import Experiment, Metric
from repro.harness.experiments.missing import Reason
from repro.harness.runs.records import Record

MARGINS = {"%": 1.0}  # by unit of the metric
ALPHA = 0.05
WIDEST = 5.0  # margins; a wider interval holds almost any number


@dataclass(frozen=True)
class CellVerdict:
    """`flips` says at which margin the verdict would turn; empty where nothing was tested."""

    verdict: Verdict
    rule: str
    flips: str = ""


def margin_of(metric: Metric) -> float | None:
    """How far from the paper's printed number our mean may lie; None where nothing is judged."""
    if metric.unit not in MARGINS:
        return None
    return MARGINS[metric.unit] + 0.5 * 10.0**-metric.decimals


def judge_cells(experiment: Experiment, evidence: Evidence) -> dict[tuple[str, str], CellVerdict]:
    """The verdict on every cell of one experiment, by (row, metric)."""
    verdicts: dict[tuple[str, str], CellVerdict] = {}
    tested: dict[tuple[str, str], tuple[Cell, float]] = {}
    for row in evidence.rows(experiment):
        for metric in experiment.metrics:
            key, c = (row.name, metric.key), row.cell(metric.key)
            untested = _untested(row, metric, evidence)
            if untested:
                verdicts[key] = untested
            else:
                margin = margin_of(metric)
                assert margin is not None, f"{c.address} is tested without a margin"
                tested[key] = (c, margin)

    floors = {key: _floor(evidence, experiment, key) for key in tested}
    raw = [
        p_equivalent(list(c.values.values()), _reported(c), margin, floors[key])
        for key, (c, margin) in tested.items()
    ]
    steps = holm_steps(raw)
    for (key, (c, margin)), p, step in zip(tested.items(), holm(raw), steps, strict=True):
        values = list(c.values.values())
        verdicts[key] = judge_cell(values, _reported(c), margin, p, step, floors[key])
    return verdicts


def _floor(evidence: Evidence, experiment: Experiment, key: tuple[str, str]) -> float:
    row = evidence.of(experiment, experiment.row(key[0]))
    return floor_of(row, experiment.metric(key[1]))


def judge_cell(
    values: list[float],
    reported: float,
    margin: float,
    p: float,
    step: int = 1,
    floor: float = 0.0,
) -> CellVerdict:
    """One cell from the values of its seeds and the p of equivalence after Holm.

    Args:
        step: by how much Holm multiplied p.
        floor: what one value varies by though no seed does.
    """
    inner = mean_interval(values, 0.90, floor=floor)
    interval = mean_interval(values, floor=floor)
    outside = inner.high < reported - margin or inner.low > reported + margin
    further_seed = prediction_interval(values, floor=floor)
    least = equivalent_from(values, reported, ALPHA / step, floor)
    flips = f"equivalent at any margin from {least:.2f}"
    if p < ALPHA:
        rule = f"TOST within {margin:g}: {format_p(p)} after Holm"
        return _verdict(Outcome.REPRODUCED, rule, flips)
    if interval.low > reported + margin:
        rule = f"95 % interval wholly above reported + {margin:g}"
        return _verdict(Outcome.REPRODUCED_ABOVE, rule, flips)
    if _plausible(reported, further_seed, margin):
        rule = (
            f"TOST within {margin:g}: {format_p(p)}; reported lies in the 95 % prediction interval"
        )
        return _verdict(Outcome.CONSISTENT, rule, flips)
    if outside:
        rule = f"90 % interval wholly outside reported +- {margin:g}"
        return _verdict(Outcome.DIFFERS, rule, flips)
    rule = "neither equivalent, nor outside the margin, nor a plausible further seed"
    return CellVerdict(Verdict(Outcome.UNDECIDED, len(values)), rule, flips)


@dataclass(frozen=True)
class ExpectedCell:
    """A cell that is judged against the paper's number, as if that were the truth."""

    statement: Statement
    seeds: int


def expected_cells(experiment: Experiment, evidence: Evidence) -> list[ExpectedCell]:
    """Those at protocol distance zero, with the spread of their seeds, or of their column."""
    found = []
    for row in evidence.rows(experiment):
        for metric in experiment.metrics:
            c, margin = row.cell(metric.key), margin_of(metric)
            if c.reported is None or margin is None or row.missing or row.distance(metric.variant):
                continue
            values = list(c.values.values())
            spread = column_spread(experiment, metric, evidence)
            sd = sampling_floor(c.reported, VALIDATION_IMAGES)
            if len(values) >= SEEDS_NEEDED:
                sd = estimate(values).sd
            elif spread:
                sd = spread.sd
            name, apart = f"{c.address} = {c.reported:g}", sd / math.sqrt(2)
            table = Table(name, {name: {0: c.reported - apart, 1: c.reported + apart}})
            terms = ((table, {name: 1.0}),)
            bounds = (
                Bound(name, terms, c.reported + sign * margin, sign < 0, "{:.2f}".format, sides=1)
                for sign in (-1, 1)
            )
            found.append(ExpectedCell(Statement(name, name, All(tuple(bounds))), len(values)))
    return found


def column_spread(experiment: Experiment, metric: Metric, evidence: Evidence) -> Spread | None:
    """What seeds of one column vary by, pooled over its healthy rows: for rows of one or two seeds.

    A collapsed row varies in a way of its own and stays out. An accuracy varies at least as much
    as counting right answers among the run's own test images does (other benchmarks, named behind
    an @, count otherwise).
    """
    groups, floors = [], []
    for row in evidence.rows(experiment):
        values, runs = row.cell(metric.key).values, row.runs(metric.variant)
        healthy = {s: v for s, v in values.items() if runs[s].sentinel.healthy}
        groups.append(list(healthy.values()))
        images = {s: n for s in healthy if (n := runs[s].counts.test_images)}
        counted = metric.unit == "%" and "@" not in row.source(metric.key)
        if counted and not metric.difference and len(images) == len(healthy):
            floors += [sampling_floor(healthy[s], n) for s, n in images.items()]
    floor = max(floors, default=0.0)
    return pooled(groups, floor)


def _untested(row: MeasuredRow, metric: Metric, evidence: Evidence) -> CellVerdict | None:
    """The verdict on a cell that no test can decide, with the reason; None for any other cell."""
    c, runs = row.cell(metric.key), row.runs(metric.variant)
    used = {seed: runs[seed] for seed in c.values}
    n = len(c.values)
    if c.missing:
        unmeasured = c.missing.reason is Reason.NOT_MEASURED
        return _verdict(Outcome.NOT_MEASURED if unmeasured else Outcome.NOT_RUN, str(c.missing))
    if evidence.scale == "smoke":
        return _verdict(Outcome.NOT_EVIDENCE, "smoke runs show no science")
    if failed := _seeds(used, lambda run: run.sentinel.state == "nan"):
        return _verdict(Outcome.INVALID, f"the loss was not finite (seeds {failed})")
    if c.reported is None:
        return _verdict(Outcome.NOTHING_PRINTED, "the paper prints no such number")
    if row.distance(metric.variant):
        return _verdict(
            Outcome.NOT_HERE, "absolute numbers are judged only at protocol distance zero"
        )
    if dirty := _seeds(used, lambda run: bool(run.env.dirty)):
        return _verdict(Outcome.INVALID, f"made by uncommitted code (seeds {dirty})")
    if margin_of(metric) is None:
        return _verdict(Outcome.NO_MARGIN, f"no margin is set for numbers in {metric.unit}")
    if n < SEEDS_NEEDED:
        spread = column_spread(row.experiment, metric, evidence)
        further = prediction_interval(list(c.values.values()), spread=spread)
        margin = margin_of(metric)
        assert margin is not None, f"{c.address} is judged without a margin"
        if _plausible(c.reported, further, margin):
            rule = f"reported lies in the 95 % prediction interval; spread: {further.source}"
            return _verdict(Outcome.CONSISTENT, rule)
        return CellVerdict(Verdict(Outcome.TOO_FEW, n), f"{SEEDS_NEEDED} seeds are needed")
    return None


def _plausible(reported: float, further_seed: Interval, margin: float) -> bool:
    """Whether a number could be a further seed's, among numbers of which most could not."""
    inside = further_seed.low <= reported <= further_seed.high
    return inside and further_seed.half_width <= WIDEST * margin


def _verdict(outcome: Outcome, rule: str, flips: str = "") -> CellVerdict:
    return CellVerdict(Verdict(outcome), rule, flips)


def _seeds(runs: Mapping[int, Record], concerned: Callable[[Record], bool]) -> str:
    return ", ".join(str(seed) for seed, run in runs.items() if concerned(run))


def _reported(c: Cell) -> float:
    assert c.reported is not None, f"{c.address} is judged without a reported number"
    return c.reported
