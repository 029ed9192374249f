"""What our records say of each row, or comparison, of a claim; the rules are in `claims.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.evidence.frame import Evidence, Record, curve, resolve_row, runs_of
from analysis.verdicts.comparisons import (
    CONFIRMED,
    CONTRADICTED,
    NOT_RUN,
    TOO_FEW,
    UNDECIDED,
    Part,
    contrasts,
    judge_close,
    judge_contrast,
    judge_step,
)
from analysis.verdicts.predicates import (
    collapsed,
    comparison_steps,
    crosses,
    healthy,
    peaks_and_declines,
    rises_and_falls,
    token_count,
)
from analysis.verdicts.verdict import SEEDS_NEEDED
from repro.dino.sentinel import HIGH, KL_LIMIT, LOW
from repro.harness.experiments.missing import NOT_MEASURED
from repro.harness.experiments.missing import NOT_RUN as NO_RUN

DECOMPOSITION_LIMIT = 1e-4


def parts_of(kind: str, body: Mapping[str, Any], evidence: Evidence) -> list[Part]:
    """The parts of a claim, all of which must hold."""
    if kind == "all_of":
        nested = [parts_of(part["kind"], part, evidence) for part in body["claims"]]
        return [part for parts in nested for part in parts]
    if kind == "close":
        return [judge_close(body["a"], body["b"], float(body["margin"]), evidence)]
    if kind in ("contrast", "ratio", "smaller_gap"):
        return [judge_contrast(contrast, evidence) for contrast in contrasts(kind, body)]
    if kind == "curve_crosses":
        return [_crossing(body, evidence)]
    if "rows" in body:
        parts = (_row(kind, body, address, evidence) for address in body["rows"])
        return [part for of_row in parts for part in of_row]
    steps = comparison_steps(kind, body)
    return [judge_step(a, b, margin, evidence) for a, b, margin in steps]


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
    if "entropy" not in m:  # outputs are vectors: the sentinel has watched their spread
        constant = run["sentinel"]["state"] != "healthy"
    else:
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
    gaps = list(_gaps(run, body).values())
    assert gaps, f"run {run['id']} has no evaluation after {body['after']} of training"
    return min(gaps) > 0, {f"smallest gap over {len(gaps)} evaluations": f"{min(gaps):+.2g}"}


def _tokens(run: Record, _body: Mapping[str, Any]) -> Judged:
    config, found = run["config"], run["metrics"]["tokens"]
    expected = token_count(config["data"]["resolution"], config["model"]["patch_size"])
    return found == expected, {"tokens": f"{found} for {expected}"}


def _peak_and_decline(run: Record, body: Mapping[str, Any]) -> Judged:
    values = [value for _, value in curve(run, body["curve"])]
    numbers = {"peak": f"{max(values):.1f}", "end": f"{values[-1]:.1f}"}
    return peaks_and_declines(values), numbers


PREDICATES: dict[str, Callable[[Record, Mapping[str, Any]], Judged]] = {
    "collapse": _collapse,
    "healthy": _healthy,
    "decomposition": _decomposition,
    "fails": _fails,
    "works": _works,
    "rise_and_fall": _rise_and_fall,
    "curve_above": _curve_above,
    "tokens": _tokens,
    "peak_and_decline": _peak_and_decline,
}


def _row(kind: str, body: Mapping[str, Any], address: str, evidence: Evidence) -> list[Part]:
    """One part for the row, or for each of its variants."""
    experiment, row = resolve_row(address, evidence)
    parts = []
    for variant in experiment.runs_a_row:
        name = f"{address}.{variant}" if variant else address
        made = runs_of(experiment, row, evidence, variant)
        # Records older than a metric say nothing of it, for or against.
        runs = {s: r for s, r in made.items() if kind != "tokens" or "tokens" in r["metrics"]}
        if runs:
            parts.append(_judge_seeds(kind, body, name, runs))
        else:
            why = NOT_MEASURED if made else row.why_not(evidence.scale) or NO_RUN
            parts.append(Part(NOT_RUN, missing={name: why}))
    return parts


def _judge_seeds(kind: str, body: Mapping[str, Any], name: str, runs: Mapping[int, Record]) -> Part:
    judged = {seed: PREDICATES[kind](run, body) for seed, run in runs.items()}
    undecided = kind == "curve_above" and _mean_above(list(runs.values()), body)
    part = _unanimous(name, judged, undecided)
    return replace(part, flips=FLIPS[kind](list(runs.values()), body)) if kind in FLIPS else part


def _crossing(body: Mapping[str, Any], evidence: Evidence) -> Part:
    """Per seed: the second row's curve is above the first's at the beginning, below at the end."""
    pair = [
        (address, *resolve_row(address, evidence)) for address in (body["first"], body["second"])
    ]
    runs = [runs_of(experiment, row, evidence) for _, experiment, row in pair]
    if not all(runs):
        gone = [p for p, found in zip(pair, runs, strict=True) if not found]
        return Part(NOT_RUN, missing={a: r.why_not(evidence.scale) or NO_RUN for a, _, r in gone})
    judged = {}
    for seed in runs[0].keys() & runs[1].keys():
        first, second = (dict(curve(found[seed], body["curve"])) for found in runs)
        gaps = [second[epoch] - first[epoch] for epoch in sorted(first.keys() & second.keys())][1:]
        numbers = {"gap at first": f"{gaps[0]:+.1f}", "at last": f"{gaps[-1]:+.1f}"}
        judged[seed] = (crosses(gaps), numbers)
    return _unanimous(f"{body['second']} - {body['first']}", judged)


def _unanimous(name: str, judged: Mapping[int, Judged], undecided: bool = False) -> Part:
    """True in all seeds confirms, in none contradicts, unless told that this is undecided."""
    true = [seed for seed, (holds, _) in judged.items() if holds]
    seeds = ", ".join(map(str, judged))
    names = next(iter(judged.values()))[1] if judged else {}
    numbers = "; ".join(
        f"{what} {', '.join(said.get(what, '-') for _, said in judged.values())}" for what in names
    )
    sentence = f"{name} {len(true)} of {len(judged)} seeds (seeds {seeds}: {numbers})"
    status = UNDECIDED
    if len(judged) < SEEDS_NEEDED:
        status = TOO_FEW
    elif len(true) == len(judged):
        status = CONFIRMED
    elif not true and not undecided:
        status = CONTRADICTED
    return Part(status, sentence, n=len(judged))


def _gaps(run: Record, body: Mapping[str, Any]) -> dict[float, float]:
    """By how much one curve lies above the other, by epoch."""
    above, below = (dict(curve(run, body[key])) for key in ("above", "below"))
    start = body["after"] * run["config"]["train"]["epochs"]
    return {e: above[e] - below[e] for e in above if e in below and e >= start}


def _mean_above(runs: list[Record], body: Mapping[str, Any]) -> bool:
    """Whether the mean over seeds is above at every epoch that all of them were evaluated at."""
    gaps = [_gaps(run, body) for run in runs]
    common = set.intersection(*(set(by_epoch) for by_epoch in gaps))
    return all(np.mean([by_epoch[e] for by_epoch in gaps]) > 0 for e in common)


def _collapse_turns(runs: list[Record], body: Mapping[str, Any]) -> str:
    """The limits between which all seeds would have to lie, closest seed first."""
    shares = [run["metrics"]["entropy"] / run["metrics"]["log_K"] for run in runs]
    kl = max(run["metrics"]["kl"] for run in runs)
    entropy = min(shares) if body["form"] == "uniform" else max(shares)
    return (
        f"all seeds collapsed at a KL limit above {kl:.2g} (now {KL_LIMIT:g}) "
        f"and an entropy limit of {entropy:.3f} ln K (now {_limit(body['form']):g})"
    )


def _health_turns(runs: list[Record], _body: Mapping[str, Any]) -> str:
    shares = [run["metrics"]["entropy"] / run["metrics"]["log_K"] for run in runs]
    kl = min(run["metrics"]["kl"] for run in runs)
    return (
        f"all seeds healthy at a KL limit below {kl:.2g} (now {KL_LIMIT:g}) and entropy limits "
        f"outside {min(shares):.2f} to {max(shares):.2f} ln K (now {LOW:g} and {HIGH:g})"
    )


def _accuracy_turns(runs: list[Record], _body: Mapping[str, Any]) -> str:
    gaps = [run["metrics"]["knn"] - run["metrics"]["knn_random"] for run in runs]
    return f"k-NN minus random initialisation by seed: {', '.join(f'{g:+.1f}' for g in gaps)}"


def _limit(form: str) -> float:
    return HIGH if form == "uniform" else LOW


FLIPS: dict[str, Callable[[list[Record], Mapping[str, Any]], str]] = {
    "collapse": _collapse_turns,
    "healthy": _health_turns,
    "fails": _accuracy_turns,
    "works": _accuracy_turns,
}


def _outputs(run: Record) -> dict[str, str]:
    m = run["metrics"]
    if "entropy" not in m:
        return {"output spread": f"{m['output_spread']:.2f}", "sentinel": run["sentinel"]["state"]}
    return {
        "KL": f"{m['kl']:.2g}",
        "h/ln K": f"{m['entropy'] / m['log_K']:.3f}",
        "that of the batch mean": f"{m['mean_entropy'] / m['log_K']:.3f}",
    }


def _accuracy(run: Record) -> dict[str, str]:
    m = run["metrics"]
    return {"k-NN": f"{m['knn']:.1f}", "random initialisation": f"{m['knn_random']:.1f}"}
