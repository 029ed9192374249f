"""Claims on curves over training: what rises, falls, stays above or crosses.

A curve is judged at its evaluations: the mean over seeds of a gap at each of them, with a spread
that the evaluations of the row share (`evidence/model.py`). "At every point" needs all of them, "at
some point" one, and nothing is concluded from the evaluations that happen to be left: all that the
config asks for must be there: a row of which a run ended early has no such curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from analysis.evidence.evidence import Evidence
from analysis.evidence.frames import reported_curve
from analysis.evidence.measured import Measured, counting_floor
from analysis.evidence.model import Table
from analysis.evidence.rows import MeasuredRow
from analysis.verdicts.outputs import of_rows
from analysis.verdicts.quantities import RESOLUTION, logarithm, logit, of_one, points, positive
from analysis.verdicts.statement import All, Bound, Expression, Some, Statement
from analysis.verdicts.verdict import Judgement
from repro.harness.experiments.claims import (
    CurveAbove,
    CurveCrosses,
    PeakAndDecline,
    RiseAndFall,
)
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN, STOPPED
from repro.harness.runs.records import NotMeasured, Record

START_HIGH = 0.9  # of ln K: where the entropy of a healthy run begins
NO_CURVE = Judgement(None, "no curve is printed")
Curve = Mapping[float, float]  # by epoch


def rise_and_fall(body: RiseAndFall, measured: Measured) -> list[Statement]:
    """Figure 7's healthy run: h starts near ln K and falls, KL has a peak strictly inside."""

    def expression(row: MeasuredRow, variant: str) -> Expression:
        runs = row.runs(variant)
        shares = {s: _scaled(run, "entropy", 1 / run.metric("log_K")) for s, run in runs.items()}
        divergences = {s: _scaled(run, "kl", 1.0) for s, run in runs.items()}
        first, *inside, last = _common([*divergences.values(), *shares.values()])
        start = _table("h/ln K", {s: {first: logit(c[first])} for s, c in shares.items()})
        fall = _table("fall of h", {s: {first: c[first] - c[last]} for s, c in shares.items()})
        rise, decline = (
            _table(
                name,
                {
                    s: {e: logarithm(c[e]) - logarithm(c[end]) for e in inside}
                    for s, c in divergences.items()
                },
            )
            for name, end in (("KL over its first", first), ("KL over its last", last))
        )
        peaks = [
            All((_bound(rise, e, 0.0, _times), _bound(decline, e, 0.0, _times))) for e in inside
        ]
        return All(
            (
                _bound(start, first, logit(START_HIGH), of_one),
                _bound(fall, first, 0.0, points),
                Some(tuple(peaks)),
            )
        )

    return of_rows(body, measured, ("rise and fall",), expression, when_diverged=False)


def curve_above(body: CurveAbove, measured: Measured) -> list[Statement]:
    def expression(row: MeasuredRow, variant: str) -> Expression:
        gaps = {
            seed: {e: one - other for e, (one, other) in _both(body, run).items()}
            for seed, run in row.runs(variant).items()
        }
        asked = _evaluations(row, variant, body.after)
        _need(asked, gaps)
        floors = [counting_floor(run, body.above, body.below) for run in row.runs(variant).values()]
        table = _table(f"{body.above} - {body.below}", gaps, max(floors))
        return All(tuple(_bound(table, epoch, 0.0, points) for epoch in asked))

    asked = ("above", body.above, body.below, body.after)
    return of_rows(body, measured, asked, expression, when_diverged=False)


def peak_and_decline(body: PeakAndDecline, measured: Measured) -> list[Statement]:
    """At some evaluation it was above its end (App. E: BYOL with multi-crop)."""

    def expression(row: MeasuredRow, variant: str) -> Expression:
        curves = {s: dict(run.curves.points(body.curve)) for s, run in row.runs(variant).items()}
        *before, last = _evaluations(row, variant, 0.0)
        _need([*before, last], curves)
        declines = {s: {e: c[e] - c[last] for e in before} for s, c in curves.items()}
        floors = [counting_floor(run, body.curve) for run in row.runs(variant).values()]
        table = _table(f"{body.curve} over its end", declines, max(floors))
        return Some(tuple(_bound(table, epoch, 0.0, points) for epoch in before))

    return of_rows(body, measured, ("decline", body.curve), expression, when_diverged=False)


def curve_crosses(body: CurveCrosses, measured: Measured) -> list[Statement]:
    """From the first evaluation after the start on: above at first, below at last."""
    name = f"{body.second} - {body.first}"
    rows = {address: measured.evidence.row(address) for address in body.row_addresses()}
    whose = tuple(a if row.missing else row.identity() for a, row in rows.items())
    key = ("crosses", body.curve, *whose)
    runs = {address: row.runs() for address, row in rows.items()}
    if missing := {a: row.missing or NOT_RUN for a, row in rows.items() if not runs[a]}:
        return [Statement(name, key, missing=missing)]
    if stopped := [address for address, row in rows.items() if row.stopped()]:
        return [Statement(name, key, missing=dict.fromkeys(stopped, STOPPED))]
    seeds = sorted(runs[body.first].keys() & runs[body.second].keys())
    epochs = _evaluations(rows[body.first], "", 0.0)
    gaps = {}
    for seed in seeds:
        first, second = (dict(runs[a][seed].curves.points(body.curve)) for a in rows)
        if all(e in first and e in second for e in (epochs[0], epochs[-1])):
            gaps[seed] = {e: second[e] - first[e] for e in (epochs[0], epochs[-1])}
    if not gaps or len(epochs) < 2:
        return [Statement(name, key, missing=dict.fromkeys(rows, NOT_MEASURED))]
    floors = [counting_floor(run, body.curve) for run in runs[body.first].values()]
    table = _table(name, gaps, math.sqrt(2) * max(floors))
    above = _bound(table, epochs[0], 0.0, points)
    below = _bound(table, epochs[-1], 0.0, points, above=False)
    return [Statement(name, key, All((above, below)), tuple(gaps))]


def _table(name: str, by_seed: Mapping[int, Curve], floor: float = RESOLUTION / 10) -> Table:
    """Rows are evaluations, by their epoch."""
    epochs = sorted({epoch for curve in by_seed.values() for epoch in curve})
    values = {_row(e): {s: curve[e] for s, curve in by_seed.items() if e in curve} for e in epochs}
    return Table(name, values, floors=dict.fromkeys(values, floor))


def _bound(
    table: Table, epoch: float, limit: float, shown: Callable[[float], str], above: bool = True
) -> Bound:
    name = f"{table.name} at epoch {epoch:g}"
    return Bound(name, ((table, {_row(epoch): 1.0}),), limit, above, shown)


def _times(logarithm_of_it: float) -> str:
    return f"x {positive(logarithm_of_it)}"


def _row(epoch: float) -> str:
    return f"{epoch:g}"


def _scaled(run: Record, curve: str, by: float) -> Curve:
    """Raises: NotMeasured: fewer than three points of the curve are finite."""
    points_of = {epoch: value * by for epoch, value in run.curves.points(curve)}
    if len(points_of) < 3:
        raise NotMeasured(curve)
    return points_of


def _common(curves: Sequence[Curve]) -> list[float]:
    """Raises: NotMeasured: fewer than three epochs are in all curves."""
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    if len(epochs) < 3:
        raise NotMeasured("a curve")
    return epochs


def _evaluations(row: MeasuredRow, variant: str, after: float) -> list[float]:
    """The epochs after the start, from a share of training on, that the config evaluates at."""
    config = row.config(variant)
    last, every = config.train.epochs, config.eval.every_epochs
    epochs = [float(e) for e in range(every, last, every)] + [float(last)]
    return [epoch for epoch in epochs if epoch >= after * last]


def _need(epochs: Sequence[float], by_seed: Mapping[int, Curve]) -> None:
    """Raises: NotMeasured: an evaluation that was asked for is in no run, or in some runs only."""
    for epoch in epochs:
        if any(epoch not in curve for curve in by_seed.values()):
            raise NotMeasured(f"the evaluation at epoch {epoch:g}")


def _both(body: CurveAbove, run: Record) -> dict[float, tuple[float, float]]:
    above, below = dict(run.curves.points(body.above)), dict(run.curves.points(body.below))
    return {epoch: (above[epoch], below[epoch]) for epoch in above if epoch in below}


# On the paper's own numbers.


def rises_and_falls(entropy: Sequence[float], kl: Sequence[float], log_K: float) -> bool:
    """On curves in nats: entropy falls from near ln K, KL has a peak inside and ends below it."""
    if len(entropy) < 3 or len(kl) < 3:
        return False
    peak = max(range(len(kl)), key=lambda i: kl[i])
    inside = 0 < peak < len(kl) - 1
    falls = entropy[0] > START_HIGH * log_K and entropy[-1] < entropy[0]
    return falls and inside and kl[-1] < kl[peak]


def crosses(gaps: Sequence[float]) -> bool:
    """Whether a curve is above another one at first and below it at last, given the gaps."""
    return len(gaps) > 1 and gaps[0] > 0 > gaps[-1]


def printed_rise_and_fall(_body: RiseAndFall, line: MeasuredRow) -> Judgement:
    entropy, kl = ([v for _, v in reported_curve(line.row, key)] for key in ("entropy", "kl"))
    if not entropy or not kl:
        return NO_CURVE
    log_K = math.log(line.paper_config().head.prototypes)
    numbers = (
        f"entropy {entropy[0]:g} to {entropy[-1]:g} of ln K = {log_K:.2f}, "
        f"KL up to {max(kl):g} and at the end {kl[-1]:g} nats"
    )
    return Judgement(rises_and_falls(entropy, kl, log_K), numbers)


def printed_curve_above(body: CurveAbove, line: MeasuredRow) -> Judgement:
    above, below = (dict(reported_curve(line.row, key)) for key in (body.above, body.below))
    start = body.after * line.paper_config().train.epochs
    gaps = [above[e] - below[e] for e in above if e in below and e >= start]
    if not gaps:
        return NO_CURVE
    return Judgement(min(gaps) > 0, f"smallest gap {min(gaps):.2f} over {len(gaps)} points")


def printed_peak_and_decline(body: PeakAndDecline, line: MeasuredRow) -> Judgement:
    values = [value for _, value in reported_curve(line.row, body.curve)]
    if not values:
        return NO_CURVE
    numbers = f"up to {max(values):g}, {values[-1]:g} at last"
    return Judgement(len(values) > 1 and values[-1] < max(values), numbers)


def printed_crossing(body: CurveCrosses, evidence: Evidence) -> Judgement:
    first, second = (
        dict(reported_curve(evidence.row(address).row, body.curve))
        for address in body.row_addresses()
    )
    common = sorted(first.keys() & second.keys())
    if len(common) < 2:
        return Judgement(None, "no two curves are printed")
    gaps = [second[epoch] - first[epoch] for epoch in common]
    return Judgement(crosses(gaps), f"{body.second} - {body.first}: {gaps[0]:+g} to {gaps[-1]:+g}")
