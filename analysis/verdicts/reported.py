"""The paper's claims on the paper's own printed numbers and digitised curves.

A check of our reading of the paper: a claim that its own numbers do not support was misread.
Printed numbers are compared as they are, without intervals: the paper gives one run each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.evidence.frame import PAPER, Evidence, config_of, reported_curve, resolve, resolve_row
from analysis.verdicts.comparisons import Contrast, contrasts
from analysis.verdicts.predicates import (
    at_chance,
    collapsed,
    comparison_steps,
    crosses,
    healthy,
    peaks_and_declines,
    rises_and_falls,
    token_count,
)

ROUNDING = 1e-9  # 72.8 - 71.8 is not exactly 1.0 in binary
Judgement = tuple[bool | None, str]


def judge(kind: str, body: Mapping[str, Any], evidence: Evidence) -> Judgement:
    """Whether the printed numbers support a claim (None: nothing printed), and a sentence."""
    if kind == "all_of":
        return _all([judge(part["kind"], part, evidence) for part in body["claims"]])
    if kind == "decomposition":
        return None, "an identity at every step; the paper prints no number to test it on"
    if kind in ("contrast", "ratio", "smaller_gap"):
        return _all([_contrast(contrast, evidence) for contrast in contrasts(kind, body)])
    if kind == "curve_crosses":
        return _crossing(body, evidence)
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


def _contrast(contrast: Contrast, evidence: Evidence) -> Judgement:
    cells = {address: resolve(address, evidence).reported for address in contrast.terms}
    printed = {address: value for address, value in cells.items() if value is not None}
    if len(printed) < len(cells):
        gone = next(address for address in cells if address not in printed)
        return None, f"{gone} is not printed"
    value = contrast.value(printed)
    sentence = f"{contrast} = {value:.4g}"
    # A bound of the paper's own wording ("2-4 %") includes its ends; "more" does not.
    slack = -ROUNDING if contrast.transfers else ROUNDING
    holds = contrast.above is None or value > contrast.above - slack
    holds = holds and (contrast.below is None or value < contrast.below + slack)
    return holds, sentence


def _crossing(body: Mapping[str, Any], evidence: Evidence) -> Judgement:
    curves = []
    for address in (body["first"], body["second"]):
        _, row = resolve_row(address, evidence)
        curves.append(dict(reported_curve(row, body["curve"])))
    first, second = curves
    common = sorted(first.keys() & second.keys())
    if len(common) < 2:
        return None, "no two curves are printed"
    gaps = [second[epoch] - first[epoch] for epoch in common]
    return crosses(gaps), f"{body['second']} - {body['first']}: {gaps[0]:+g} to {gaps[-1]:+g}"


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

    config = config_of(experiment, row, PAPER, experiment.runs_a_row[0])
    if kind == "tokens":
        expected = token_count(config.data.resolution, config.model.patch_size)
        printed_tokens = row.reported.get("tokens")
        if printed_tokens is None:
            return None, f"{address}: no number of tokens is printed"
        return printed_tokens == expected, f"{address}: {printed_tokens:g} tokens for {expected}"
    if kind == "peak_and_decline":
        values = [value for _, value in reported_curve(row, body["curve"])]
        if not values:
            return None, f"{address}: no curve is printed"
        return peaks_and_declines(
            values
        ), f"{address}: up to {max(values):g}, {values[-1]:g} at last"
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
