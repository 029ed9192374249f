"""The paper's claims on the paper's own printed numbers and digitised curves.

A check of our reading of the paper: a claim that its own numbers do not support was misread.
Printed numbers are compared as they are, without intervals: the paper gives one run each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.frame import PAPER, Evidence, config_of, reported_curve, resolve, resolve_row
from analysis.predicates import (
    at_chance,
    collapsed,
    comparison_steps,
    healthy,
    rises_and_falls,
)

ROUNDING = 1e-9  # 72.8 - 71.8 is not exactly 1.0 in binary
Judgement = tuple[bool | None, str]


def judge(kind: str, body: Mapping[str, Any], evidence: Evidence) -> Judgement:
    """Whether the printed numbers support a claim (None: nothing printed), and a sentence."""
    if kind == "all_of":
        return _all([judge(part["kind"], part, evidence) for part in body["claims"]])
    if kind == "decomposition":
        return None, "an identity at every step; the paper prints no number to test it on"
    if "rows" in body:
        return _all([_judge_row(kind, body, address, evidence) for address in body["rows"]])
    if kind == "close":
        return _compare(body["a"], body["b"], kind, float(body["margin"]), evidence)
    steps = comparison_steps(kind, body)
    return _all([_compare(a, b, kind, margin, evidence) for a, b, margin in steps])


def _compare(a: str, b: str, kind: str, margin: float, evidence: Evidence) -> Judgement:
    x, y = resolve(a, evidence).reported, resolve(b, evidence).reported
    if x is None or y is None:
        return None, f"{a if x is None else b} is not printed"
    difference = x - y
    if kind == "close":
        return abs(difference) <= margin + ROUNDING, f"{a} {x:g} and {b} {y:g}, margin {margin:g}"
    if kind == "no_worse":
        return difference >= -margin - ROUNDING, f"{a} {x:g} against {b} {y:g}, margin {margin:g}"
    return difference > 0, f"{a} {x:g} against {b} {y:g}"


def _judge_row(kind: str, body: Mapping[str, Any], address: str, evidence: Evidence) -> Judgement:
    experiment, row = resolve_row(address, evidence)
    if kind in ("fails", "works"):
        percent = {m.key for m in experiment.metrics if m.unit == "%"}
        printed = {k: v for k, v in row.reported.items() if k in percent}
        if not printed:
            return None, f"{address}: no accuracy is printed"
        low = [at_chance(v) for v in printed.values()]
        numbers = ", ".join(f"{k} {v:g} %" for k, v in printed.items())
        return (all(low) if kind == "fails" else not any(low)), f"{address}: {numbers}"

    config = config_of(experiment, row, PAPER)
    if kind == "curve_above":
        above = dict(reported_curve(row, body["above"]))
        below = dict(reported_curve(row, body["below"]))
        late = [e for e in above if e in below and e >= body["after"] * config.train.epochs]
        if not late:
            return None, f"{address}: no curve is printed"
        gaps = [above[e] - below[e] for e in late]
        return min(gaps) > 0, f"{address}: smallest gap {min(gaps):.2f} over {len(gaps)} points"

    log_K = math.log(config.head.prototypes)
    if kind == "rise_and_fall":
        entropy = [v for _, v in reported_curve(row, "entropy")]
        kl = [v for _, v in reported_curve(row, "kl")]
        if not entropy or not kl:
            return None, f"{address}: no curve is printed"
        sentence = (
            f"{address}: entropy {entropy[0]:g} to {entropy[-1]:g} of ln K = {log_K:.2f}, "
            f"KL up to {max(kl):g} and at the end {kl[-1]:g} nats"
        )
        return rises_and_falls(entropy, kl, log_K), sentence

    entropy_end, kl_end = row.reported.get("entropy"), row.reported.get("kl")
    if entropy_end is None or kl_end is None:
        return None, f"{address}: not printed"
    sentence = f"{address}: entropy {entropy_end:g} of ln K = {log_K:.2f}, KL {kl_end:g} nats"
    if kind == "healthy":
        return healthy(entropy_end, kl_end, log_K), sentence
    assert kind == "collapse", f"unknown claim kind '{kind}'"
    return collapsed(entropy_end, kl_end, None, log_K, body.get("form")), sentence


def _all(judgements: list[Judgement]) -> Judgement:
    holds = [h for h, _ in judgements]
    verdict = False if False in holds else None if None in holds else True
    return verdict, "; ".join(sentence for _, sentence in judgements)
