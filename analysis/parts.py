"""What our records say of each row, or comparison, of a claim; the rules are in `claims.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.frame import (
    Evidence,
    Record,
    curve,
    resolve,
    resolve_metric,
    resolve_row,
    row_distance,
    runs_of,
)
from analysis.predicates import collapsed, comparison_steps, healthy, rises_and_falls
from analysis.stats import format_p, mean_interval, p_above, p_below, p_equivalent, paired

SEEDS_NEEDED = 3
DECOMPOSITION_LIMIT = 1e-4

CONFIRMED, CONTRADICTED, UNDECIDED, TESTED = "confirmed", "contradicted", "undecided", "tested"
NOT_RUN, TOO_FEW, NOT_JUDGED = "not run", "too few seeds", "not judged at this scale"


@dataclass(frozen=True)
class Part:
    """One row or step; `missing` maps what has no number to the reason, where it is NOT_RUN.

    TESTED ones await Holm: p to confirm and p to contradict, both at 5 %.
    """

    status: str
    detail: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    n: int = 0
    p_for: float = 1.0
    p_against: float = 1.0


def parts_of(kind: str, body: Mapping[str, Any], evidence: Evidence) -> list[Part]:
    """The parts of a claim, all of which must hold."""
    if kind == "all_of":
        nested = [parts_of(part["kind"], part, evidence) for part in body["claims"]]
        return [part for parts in nested for part in parts]
    if kind == "close":
        return [_close(body["a"], body["b"], float(body["margin"]), evidence)]
    if "rows" in body:
        return [_row(kind, body, address, evidence) for address in body["rows"]]
    steps = comparison_steps(kind, body)
    return [_step(a, b, margin, evidence) for a, b, margin in steps]


def _step(better: str, worse: str, margin: float, evidence: Evidence) -> Part:
    if missing := _missing(better, worse, evidence):
        return Part(NOT_RUN, missing=missing)
    values, sentence = _differences(better, worse, evidence)
    if len(values) < SEEDS_NEEDED:
        return Part(TOO_FEW, sentence, n=len(values))
    # Doubled: a 95 % interval leaves 2.5 % on either side.
    p_for, p_against = (min(1.0, 2 * p(values, -margin)) for p in (p_above, p_below))
    sentence += f", {format_p(min(p_for, p_against))}"
    if margin:
        sentence += f" against a margin of {margin:g}"
    return Part(TESTED, sentence, n=len(values), p_for=p_for, p_against=p_against)


def _close(a: str, b: str, margin: float, evidence: Evidence) -> Part:
    rows = [resolve_row(address.rpartition(".")[0], evidence) for address in (a, b)]
    trainable = all(row.why_not(evidence.scale) == "" for _, row in rows)
    if trainable and any(row_distance(e, row, evidence.scale) for e, row in rows):
        why = "a margin in points does not transfer to a protocol that is not the paper's"
        return Part(NOT_JUDGED, f"{a} - {b}: {why}")
    if missing := _missing(a, b, evidence):
        return Part(NOT_RUN, missing=missing)
    values, sentence = _differences(a, b, evidence)
    if len(values) < SEEDS_NEEDED:
        return Part(TOO_FEW, sentence, n=len(values))
    p_for = p_equivalent(values, 0.0, margin)
    p_against = min(1.0, 2 * min(p_above(values, margin), p_below(values, -margin)))
    sentence += f", equivalence within {margin:g}: {format_p(p_for)}"
    return Part(TESTED, sentence, n=len(values), p_for=p_for, p_against=p_against)


def _missing(a: str, b: str, evidence: Evidence) -> dict[str, str]:
    """What keeps two cells from being compared: the row where it has no runs, else the cell."""
    reasons = {}
    for address in (a, b):
        row_address = address.rpartition(".")[0]
        _, row = resolve_row(row_address, evidence)
        if why := row.why_not(evidence.scale):
            reasons[row_address] = why
        elif why := resolve(address, evidence).missing:
            reasons[address] = why
    return reasons


def _differences(a: str, b: str, evidence: Evidence) -> tuple[list[float], str]:
    differences = paired(resolve(a, evidence).values, resolve(b, evidence).values)
    values, seeds = list(differences.values()), ", ".join(map(str, differences))
    if not values:
        return values, f"{a} - {b}: no seed in common"
    metric = resolve_metric(a, evidence)
    interval, digits = mean_interval(values), metric.decimals + 1
    sentence = f"{a} - {b} = {interval.mean:+.{digits}f}"
    if len(values) > 1:
        sentence += f" (95 % interval {interval.low:.{digits}f} to {interval.high:.{digits}f})"
    return values, f"{sentence}, n = {len(values)} (seeds {seeds})"


# Per-seed predicates: whether it is true, and the numbers that it rests on, by name.
Judged = tuple[bool, dict[str, str]]


def _collapse(run: Record, body: Mapping[str, Any]) -> Judged:
    m = run["metrics"]
    true = collapsed(m["entropy"], m["kl"], m["mean_entropy"], m["log_K"], body["form"])
    return true, _outputs(run)


def _healthy(run: Record, _body: Mapping[str, Any]) -> Judged:
    m = run["metrics"]
    return healthy(m["entropy"], m["kl"], m["log_K"]), _outputs(run)


def _decomposition(run: Record, _body: Mapping[str, Any]) -> Judged:
    error = run["metrics"]["decomposition_error"]
    return error < DECOMPOSITION_LIMIT, {"largest error": f"{error:.1e}"}


def _fails(run: Record, _body: Mapping[str, Any]) -> Judged:
    m = run["metrics"]
    return m["knn"] <= m["knn_random"], _accuracy(run)


def _works(run: Record, _body: Mapping[str, Any]) -> Judged:
    m = run["metrics"]
    constant = collapsed(m["entropy"], m["kl"], m["mean_entropy"], m["log_K"])
    return m["knn"] > m["knn_random"] and not constant, _accuracy(run) | _outputs(run)


def _rise_and_fall(run: Record, _body: Mapping[str, Any]) -> Judged:
    entropy, kl = ([v for _, v in curve(run, key)] for key in ("entropy", "kl"))
    log_K = run["metrics"]["log_K"]
    numbers = {
        "h/ln K first": f"{entropy[0] / log_K:.2f}",
        "last": f"{entropy[-1] / log_K:.2f}",
        "KL first": f"{kl[0]:.2f}",
        "peak": f"{max(kl):.2f}",
        "end": f"{kl[-1]:.2f}",
    }
    return rises_and_falls(entropy, kl, log_K), numbers


def _curve_above(run: Record, body: Mapping[str, Any]) -> Judged:
    gaps = _gaps(run, body)
    assert gaps, f"run {run['id']} has no evaluation after {body['after']} of training"
    return min(gaps) > 0, {f"smallest gap over {len(gaps)} evaluations": f"{min(gaps):+.2g}"}


PREDICATES: dict[str, Callable[[Record, Mapping[str, Any]], Judged]] = {
    "collapse": _collapse,
    "healthy": _healthy,
    "decomposition": _decomposition,
    "fails": _fails,
    "works": _works,
    "rise_and_fall": _rise_and_fall,
    "curve_above": _curve_above,
}


def _row(kind: str, body: Mapping[str, Any], address: str, evidence: Evidence) -> Part:
    experiment, row = resolve_row(address, evidence)
    runs = runs_of(experiment, row, evidence)
    if not runs:
        return Part(NOT_RUN, missing={address: row.why_not(evidence.scale) or "not run"})
    judged = {seed: PREDICATES[kind](run, body) for seed, run in runs.items()}
    true = [seed for seed, (holds, _) in judged.items() if holds]
    names = next(iter(judged.values()))[1]
    numbers = "; ".join(
        f"{name} {', '.join(said[name] for _, said in judged.values())}" for name in names
    )
    seeds = ", ".join(map(str, runs))
    sentence = f"{address} {len(true)} of {len(runs)} seeds (seeds {seeds}: {numbers})"
    status = UNDECIDED
    if len(runs) < SEEDS_NEEDED:
        status = TOO_FEW
    elif len(true) == len(runs):
        status = CONFIRMED
    elif not true and not (kind == "curve_above" and _mean_above(list(runs.values()), body)):
        status = CONTRADICTED
    return Part(status, sentence, n=len(runs))


def _gaps(run: Record, body: Mapping[str, Any]) -> list[float]:
    above, below = (dict(curve(run, body[key])) for key in ("above", "below"))
    start = body["after"] * run["config"]["train"]["epochs"]
    return [above[e] - below[e] for e in above if e in below and e >= start]


def _mean_above(runs: list[Record], body: Mapping[str, Any]) -> bool:
    return bool(np.mean([_gaps(run, body) for run in runs], axis=0).min() > 0)


def _outputs(run: Record) -> dict[str, str]:
    m = run["metrics"]
    return {
        "KL": f"{m['kl']:.2g}",
        "h/ln K": f"{m['entropy'] / m['log_K']:.3f}",
        "that of the batch mean": f"{m['mean_entropy'] / m['log_K']:.3f}",
    }


def _accuracy(run: Record) -> dict[str, str]:
    m = run["metrics"]
    return {"k-NN": f"{m['knn']:.1f}", "random initialisation": f"{m['knn_random']:.1f}"}
