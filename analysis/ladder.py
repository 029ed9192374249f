"""Verdicts on single cells: is our mean the paper's number?

| verdict                   | rule, at protocol distance zero and with at least 3 seeds          |
| ------------------------- | ------------------------------------------------------------------ |
| reproduced                | TOST at 5 % against the margin, Holm over the experiment's cells   |
| reproduced+               | 95 % interval wholly above reported + margin (still a discrepancy) |
| consistent (underpowered) | reported lies in the 95 % prediction interval of a further seed    |
| differs                   | 90 % interval wholly outside reported +- margin                    |
| undecided at n seeds      | none of these                                                      |

The first that applies is given: a number that could be a further seed of ours does not differ.
At any other protocol distance an absolute number means nothing: "n/a at this scale".
The margin is one point of accuracy: the spread of honest full repetitions of DINO.
Throughput is a property of the machine and is never judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.comparisons import SEEDS_NEEDED
from analysis.frame import NOT_MEASURED, Cell, Evidence, cell, row_distance
from analysis.stats import format_p, holm, mean_interval, p_equivalent, prediction_interval
from repro.harness.spec import Experiment

MARGINS = {"%": 1.0}  # by unit of the metric
ALPHA = 0.05


@dataclass(frozen=True)
class CellVerdict:
    verdict: str
    rule: str


def judge_cells(experiment: Experiment, evidence: Evidence) -> dict[tuple[str, str], CellVerdict]:
    """The verdict on every cell of one experiment, by (row, metric)."""
    verdicts: dict[tuple[str, str], CellVerdict] = {}
    tested: dict[tuple[str, str], tuple[Cell, float]] = {}
    for row in experiment.rows:
        for metric in experiment.metrics:
            key = (row.name, metric.key)
            c = cell(experiment, row, metric.key, evidence)
            margin = MARGINS.get(metric.unit)
            if c.missing:
                word = "not measured" if c.missing == NOT_MEASURED else "not run"
                verdicts[key] = CellVerdict(word, c.missing)
            elif evidence.scale == "smoke":
                verdicts[key] = CellVerdict("not evidence (smoke)", "smoke runs show no science")
            elif c.reported is None:
                verdicts[key] = CellVerdict("nothing printed", "the paper prints no such number")
            elif row_distance(experiment, row, evidence.scale, metric.variant):
                rule = "absolute numbers are judged only at protocol distance zero"
                verdicts[key] = CellVerdict("n/a at this scale", rule)
            elif margin is None:
                rule = f"no margin is set for numbers in {metric.unit}"
                verdicts[key] = CellVerdict("not judged", rule)
            elif len(c.values) < SEEDS_NEEDED:
                rule = f"{SEEDS_NEEDED} seeds are needed"
                verdicts[key] = CellVerdict(f"{len(c.values)} of {SEEDS_NEEDED} seeds", rule)
            else:
                tested[key] = (c, margin)

    equivalence = holm(
        [
            p_equivalent(list(c.values.values()), _reported(c), margin)
            for c, margin in tested.values()
        ]
    )
    for (key, (c, margin)), p in zip(tested.items(), equivalence, strict=True):
        verdicts[key] = judge_cell(list(c.values.values()), _reported(c), margin, p)
    return verdicts


def judge_cell(values: list[float], reported: float, margin: float, p: float) -> CellVerdict:
    """One cell from the values of its seeds and the p of equivalence after Holm."""
    inner, interval = mean_interval(values, 0.90), mean_interval(values)
    outside = inner.high < reported - margin or inner.low > reported + margin
    further_seed = prediction_interval(values)
    if p < ALPHA:
        return CellVerdict("reproduced", f"TOST within {margin:g}: {format_p(p)} after Holm")
    if interval.low > reported + margin:
        return CellVerdict("reproduced+", f"95 % interval wholly above reported + {margin:g}")
    if further_seed.low <= reported <= further_seed.high:
        rule = (
            f"TOST within {margin:g}: {format_p(p)}; reported lies in the 95 % prediction interval"
        )
        return CellVerdict("consistent (underpowered)", rule)
    if outside:
        return CellVerdict("differs", f"90 % interval wholly outside reported +- {margin:g}")
    rule = "neither equivalent, nor outside the margin, nor a plausible further seed"
    return CellVerdict(f"undecided at {len(values)} seeds", rule)


def _reported(c: Cell) -> float:
    assert c.reported is not None, f"{c.address} is judged without a reported number"
    return c.reported
