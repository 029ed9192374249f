"""Claims on curves over training: what rises, falls, stays above or crosses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.evidence.evidence import Evidence
from analysis.evidence.frames import reported_curve
from analysis.evidence.rows import MeasuredRow
from analysis.verdicts.meaning import Meaning
from analysis.verdicts.rows import Observation, by_row, by_seed, unanimous
from analysis.verdicts.verdict import Judgement, Part, Status
from repro.harness.experiments.claims import (
    Body,
    CurveAbove,
    CurveCrosses,
    PeakAndDecline,
    RiseAndFall,
)
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN
from repro.harness.runs.records import NotMeasured, Record

START_HIGH = 0.9  # of ln K: where the entropy of a healthy run begins
NO_CURVE = Judgement(None, "no curve is printed")


def rises_and_falls(entropy: Sequence[float], kl: Sequence[float], log_K: float) -> bool:
    """Figure 7's healthy run, on curves in nats: entropy falls from near ln K, KL has a peak.

    The peak must lie strictly inside the curve, and KL must end below it.
    """
    if len(entropy) < 3 or len(kl) < 3:
        return False
    peak = max(range(len(kl)), key=lambda i: kl[i])
    inside = 0 < peak < len(kl) - 1
    falls = entropy[0] > START_HIGH * log_K and entropy[-1] < entropy[0]
    return falls and inside and kl[-1] < kl[peak]


def peaks_and_declines(values: Sequence[float]) -> bool:
    """Whether a curve ends below its maximum (App. E: BYOL with multi-crop)."""
    return len(values) > 1 and values[-1] < max(values)


def crosses(gaps: Sequence[float]) -> bool:
    """Whether a curve is above another one at first and below it at last, given the gaps."""
    return len(gaps) > 1 and gaps[0] > 0 > gaps[-1]


def _rise_and_fall(_body: RiseAndFall, run: Record) -> Observation:
    entropy, kl = (_values(run, key) for key in ("entropy", "kl"))
    log_K = run.metric("log_K")
    numbers = {
        "h/ln K first": f"{entropy[0] / log_K:.2f}",
        "last": f"{entropy[-1] / log_K:.2f}",
        "KL first": f"{kl[0]:.2f}",
        "peak": f"{max(kl):.2f}",
        "end": f"{kl[-1]:.2f}",
    }
    return Observation(rises_and_falls(entropy, kl, log_K), numbers)


def _values(run: Record, curve: str) -> list[float]:
    """Raises: NotMeasured: no point of the curve is finite."""
    values = [value for _, value in run.curves.points(curve)]
    if not values:
        raise NotMeasured(curve)
    return values


def _printed_rise_and_fall(_body: RiseAndFall, line: MeasuredRow) -> Judgement:
    entropy, kl = ([v for _, v in reported_curve(line.row, key)] for key in ("entropy", "kl"))
    if not entropy or not kl:
        return NO_CURVE
    log_K = math.log(line.paper_config().head.prototypes)
    numbers = (
        f"entropy {entropy[0]:g} to {entropy[-1]:g} of ln K = {log_K:.2f}, "
        f"KL up to {max(kl):g} and at the end {kl[-1]:g} nats"
    )
    return Judgement(rises_and_falls(entropy, kl, log_K), numbers)


def _curve_above(body: CurveAbove, run: Record) -> Observation:
    gaps = list(_gaps(body, run).values())
    if not gaps:
        raise NotMeasured(f"an evaluation after {body.after} of training")
    numbers = {f"smallest gap over {len(gaps)} evaluations": f"{min(gaps):+.2g}"}
    return Observation(min(gaps) > 0, numbers)


def _gaps(body: CurveAbove, run: Record) -> dict[float, float]:
    """By how much one curve lies above the other, by epoch."""
    above, below = dict(run.curves.points(body.above)), dict(run.curves.points(body.below))
    start = body.after * run.config["train"]["epochs"]
    return {e: above[e] - below[e] for e in above if e in below and e >= start}


def _mean_above(body: CurveAbove, runs: Sequence[Record]) -> bool:
    """Whether the mean over seeds is above at every epoch that all of them were evaluated at."""
    gaps = [_gaps(body, run) for run in runs]
    common = set.intersection(*(set(by_epoch) for by_epoch in gaps))
    return all(np.mean([by_epoch[e] for by_epoch in gaps]) > 0 for e in common)


def _printed_curve_above(body: CurveAbove, line: MeasuredRow) -> Judgement:
    above, below = (dict(reported_curve(line.row, key)) for key in (body.above, body.below))
    start = body.after * line.paper_config().train.epochs
    gaps = [above[e] - below[e] for e in above if e in below and e >= start]
    if not gaps:
        return NO_CURVE
    return Judgement(min(gaps) > 0, f"smallest gap {min(gaps):.2f} over {len(gaps)} points")


def _peak_and_decline(body: PeakAndDecline, run: Record) -> Observation:
    values = _values(run, body.curve)
    numbers = {"peak": f"{max(values):.1f}", "end": f"{values[-1]:.1f}"}
    return Observation(peaks_and_declines(values), numbers)


def _printed_peak_and_decline(body: PeakAndDecline, line: MeasuredRow) -> Judgement:
    values = [value for _, value in reported_curve(line.row, body.curve)]
    if not values:
        return NO_CURVE
    numbers = f"up to {max(values):g}, {values[-1]:g} at last"
    return Judgement(peaks_and_declines(values), numbers)


def _crossing(body: CurveCrosses, evidence: Evidence) -> list[Part]:
    """Per seed, from the first evaluation after the start on: above at first, below at last."""
    name = f"{body.second} - {body.first}"
    rows = {address: evidence.row(address) for address in body.row_addresses()}
    runs = {address: row.runs() for address, row in rows.items()}
    missing = {a: row.missing or NOT_RUN for a, row in rows.items() if not runs[a]}
    if missing:
        return [Part(Status.NOT_RUN, name=name, missing=missing)]
    observed = {}
    for seed in runs[body.first].keys() & runs[body.second].keys():
        first, second = (
            dict(runs[address][seed].curves.points(body.curve)) for address in body.row_addresses()
        )
        gaps = [second[epoch] - first[epoch] for epoch in sorted(first.keys() & second.keys())][1:]
        if not gaps:
            continue
        numbers = {"gap at first": f"{gaps[0]:+.1f}", "at last": f"{gaps[-1]:+.1f}"}
        observed[seed] = Observation(crosses(gaps), numbers)
    if not observed:
        unmeasured = dict.fromkeys(rows, NOT_MEASURED)
        return [Part(Status.NOT_RUN, name=name, missing=unmeasured)]
    return [unanimous(name, observed)]


def _printed_crossing(body: CurveCrosses, evidence: Evidence) -> Judgement:
    first, second = (
        dict(reported_curve(evidence.row(address).row, body.curve))
        for address in body.row_addresses()
    )
    common = sorted(first.keys() & second.keys())
    if len(common) < 2:
        return Judgement(None, "no two curves are printed")
    gaps = [second[epoch] - first[epoch] for epoch in common]
    return Judgement(crosses(gaps), f"{body.second} - {body.first}: {gaps[0]:+g} to {gaps[-1]:+g}")


MEANINGS: Mapping[type[Body], Meaning[Any]] = {
    RiseAndFall: Meaning(
        "h starts above 0.9 ln K and falls, KL peaks inside and falls, in every seed",
        by_seed(_rise_and_fall),
        by_row(_printed_rise_and_fall),
    ),
    # Contradicted only if the mean over seeds is not above everywhere either.
    CurveAbove: Meaning(
        "above at every evaluation, in every seed",
        by_seed(_curve_above, unless=_mean_above),
        by_row(_printed_curve_above),
    ),
    PeakAndDecline: Meaning(
        "the curve ends below its maximum, in every seed",
        by_seed(_peak_and_decline),
        by_row(_printed_peak_and_decline),
    ),
    CurveCrosses: Meaning(
        "above at first and below at last, in every seed", _crossing, _printed_crossing
    ),
}
