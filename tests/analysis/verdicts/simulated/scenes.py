"""Every kind of claim at its very limit: eight rows whose means are exactly what a claim excludes.

There a verdict in either direction is false, and most often so. A scene is one kind: its claims, of
rows `X1.r0` to `X1.r7`, and the true means of what their runs measure, on the scale on which seeds
vary. What a statement needs beside the number that stands at its limit lies far on the right side,
or at the limit too, since either may be worse.

Shapes: R rows, E points of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from repro.dino.sentinel import HIGH, INFORMATION_LIMIT, KL_LIMIT, LOW

Array = npt.NDArray[np.float64]
ROWS = 8
FAR = 25.0  # points
EVALUATIONS = (20.0, 40.0, 60.0, 80.0, 100.0)  # epochs
STEPS = tuple(5.0 + 10 * i for i in range(10))  # epochs of the curves of training itself
POINTS = {
    "knn": len(EVALUATIONS),
    "student_knn": len(EVALUATIONS),
    "h": len(STEPS),
    "kl": len(STEPS),
}
SHARP, FLAT = -4.0, 8.0  # logits of h / ln K far beyond its limits


def logit(share: float) -> float:
    return math.log(share / (1 - share))


# What a healthy run measures: divergences as powers of ten, shares of ln K as logits, speed as a
# logarithm, accuracies in points.
HEALTHY = {
    "kl": 0.0, "h": 0.0, "mean_h": math.nan, "information": math.log10(0.2), "loss": 0.5,
    "output_spread": math.nan, "knn": 70.0, "student_knn": 60.0, "linear": 75.0,
    "im_s": math.log(1000.0),
}  # fmt: skip
RISE_AND_FALL = {
    "knn": np.linspace(62, 70, POINTS["knn"]),
    "student_knn": np.linspace(52, 60, POINTS["student_knn"]),
    "h": np.linspace(logit(0.98), 0.0, POINTS["h"]),
    "kl": np.array([-1.0, -0.6, -0.2, 0.2, 0.6, 0.6, 0.4, 0.2, 0.0, -0.2]),
}


@dataclass(frozen=True)
class Scene:
    """`means` of some quantities of some rows, `curves` likewise; all others are healthy. In the
    direction of `towards`, in spreads, its first claim comes true."""

    kind: str
    claims: tuple[Mapping[str, Any], ...]
    means: Mapping[tuple[str, int], float]
    curves: Mapping[tuple[str, int], Array]
    towards: Mapping[tuple[str, int], float | Array]
    collapsed: int = 1  # the row that a collapse befalls, where noise is of that kind

    def means_R(self, quantity: str) -> Array:
        return np.array(
            [self.means.get((quantity, r), HEALTHY[quantity]) for r in range(ROWS)], float
        )

    def means_RE(self, curve: str) -> Array:
        healthy = RISE_AND_FALL[curve]
        return np.array([self.curves.get((curve, r), healthy) for r in range(ROWS)], float)


def row(r: int) -> str:
    return f"X1.r{r}"


def _scene(
    kind: str,
    claims: list[dict[str, Any]],
    means: Mapping[tuple[str, int], float] | None = None,
    curves: Mapping[tuple[str, int], Array] | None = None,
) -> Scene:
    named = ({"kind": kind} | claim for claim in claims)
    return Scene(kind, tuple(named), means or {}, curves or {}, TOWARDS[kind])


def _knn(*rows: int) -> list[str]:
    return [f"{row(r)}.knn" for r in rows]


def _of(*rows: int) -> dict[str, Any]:
    return {"rows": [row(r) for r in rows]}


PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7))


def _accuracies(*by_row: float) -> dict[tuple[str, int], float]:
    return {("knn", r): value for r, value in enumerate(by_row)}


def _comparisons() -> list[Scene]:
    pairs = [dict(zip(("better", "worse"), _knn(*pair), strict=True)) for pair in PAIRS]
    by_one = [pair | {"by": 1.0} for pair in pairs[2:]]
    equal = [dict(zip("ab", _knn(*pair), strict=True)) | {"margin": 1.0} for pair in PAIRS]
    sums = [
        {"terms": dict(zip(_knn(0, 1, 2, 3), (1, -1, -1, 1), strict=True)), "above": 0.0},
        {"terms": dict(zip(_knn(4, 5), (1, -1), strict=True)), "above": 0.5, "below": 9.0},
        {"terms": dict(zip(_knn(6, 7), (1, -1), strict=True)), "above": 0.5, "below": 9.0},
        {"terms": {f"{row(r)}.{m}": w for r in (0, 1) for m, w in GAP.items()}, "below": -20.0},
    ]
    speeds = [{"over": f"{row(a)}.im_s", "under": f"{row(b)}.im_s"} for a, b in PAIRS]
    limits = [{"above": 1.0}, {"below": 1.0}, {"above": 2.0, "below": 9.0}, {"above": 2.0}]
    fast = HEALTHY["im_s"] + math.log(2)
    gaps = [_of(a) | {"than": [row(b)], "high": "linear", "low": "knn"} for a, b in PAIRS]
    sizes = {0: 5.0, 1: 5.0, 2: 6.0, 3: -6.0, 4: 0.0, 5: 0.0, 6: -8.0, 7: 8.0}
    return [
        _scene("greater", pairs[:2] + by_one, _accuracies(70, 70, 40, 40, 61, 60, 51, 50)),
        _scene(
            "no_worse",
            [pair | {"margin": 1.0} for pair in pairs],
            _accuracies(70, 71, 40, 41, 60, 61, 50, 51),
        ),
        _scene(
            "best",
            [{"best": _knn(r)[0], "among": _knn(r + 1, r + 2, r + 3)} for r in (0, 4)],
            _accuracies(*[70] * 4, 50, 50, 50 - FAR, 50 - FAR),
        ),
        _scene(
            "order",
            [{"order": _knn(*range(r, r + 4))} for r in (0, 4)],
            _accuracies(*[70] * 4, 70, 70, 40, 10),
        ),
        _scene("close", equal, _accuracies(70, 71, 41, 40, 60, 61, 51, 50)),
        _scene(
            "contrast",
            sums,
            _accuracies(70, 60, 50, 40, 60, 59.5, 59, 50)
            | {("linear", 0): 65.0, ("linear", 1): 45.0},
        ),
        _scene(
            "ratio",
            [speed | limit for speed, limit in zip(speeds, limits, strict=True)],
            {("im_s", 4): fast, ("im_s", 6): fast},
        ),
        _scene("smaller_gap", gaps, {("linear", r): 70.0 + gap for r, gap in sizes.items()}),
    ]


GAP = {"linear": 1, "knn": -1}
AT_KL, AT_INFORMATION = math.log10(KL_LIMIT), math.log10(INFORMATION_LIMIT)
CONSTANT = math.log10(INFORMATION_LIMIT) - 2.0
NO_KL = math.log10(KL_LIMIT) - 3.0
# Forms of collapse at a limit, far beyond all others of their form.
AT_LIMITS: dict[str, list[dict[str, float]]] = {
    "uniform": [
        {"kl": AT_KL, "h": FLAT, "information": CONSTANT},
        {"kl": NO_KL, "h": logit(HIGH), "information": CONSTANT},
        {"kl": AT_KL, "h": logit(HIGH), "information": CONSTANT},
    ],
    "one_dimension": [
        {"kl": AT_KL, "h": 2 * SHARP, "information": CONSTANT},
        {"kl": NO_KL, "h": logit(LOW), "information": CONSTANT - 3},
        {"kl": NO_KL, "h": 2 * SHARP, "mean_h": logit(LOW)},
    ],
    "any": [
        {"information": AT_INFORMATION},
        {"kl": AT_KL, "h": logit(0.96), "information": math.log10(0.02)},
        {"output_spread": math.log10(0.05)},
    ],
}


def _at(*by_row: dict[str, float]) -> dict[tuple[str, int], float]:
    return {(quantity, r): value for r, its in enumerate(by_row) for quantity, value in its.items()}


def _states() -> list[Scene]:
    forms = [at for form in AT_LIMITS.values() for at in form]
    claims = [_of(0, 1, 2) | {"form": "uniform"}, _of(3, 4, 5) | {"form": "one_dimension"}, _of(6)]
    sound = [
        {"kl": AT_KL},
        {"h": logit(LOW)},
        {"h": logit(HIGH), "information": -3.0},
        {"kl": AT_KL, "h": logit(LOW)},
    ]
    losses = [{"loss": at} for at in (HIGH, 2 - HIGH)] * 2
    half = {("knn", r): 70.0 if r in (1, 3, 5, 7) else 80.0 for r in range(ROWS)}
    gains = [_of(r) | {"healthy": row(r - 1)} for r in (1, 3, 5)]
    gains.append(_of(7, 5) | {"healthy": row(0)})
    return [
        _scene("collapse", claims, _at(*forms[:7])),
        _scene("no_collapse", [_of(0, 1), _of(2)], _at(*AT_LIMITS["any"])),
        _scene("healthy", [_of(r) for r in range(4)], _at(*sound)),
        _scene("uniform_loss", [_of(0, 1), _of(2), _of(3)], _at(*losses)),
        _scene("fails", gains, half),
        _scene("works", gains, half),
    ]


def _curves() -> list[Scene]:
    flat, all_below = np.full(5, 60.0), np.full(5, 60.0 - FAR)
    once = np.where(np.arange(5) == 2, 60.0, 60.0 + FAR)
    lows = np.where(np.arange(5) == 1, 60.0, 60.0 - FAR)
    lows[-1] = 60.0
    kl = RISE_AND_FALL["kl"]
    plateau = np.where(np.arange(10) < 4, -1.0, 0.6)
    h = np.linspace(logit(0.98), 0.0, 10)
    above = {"above": "knn", "below": "student_knn", "after": 0.2}
    return [
        _scene(
            "rise_and_fall",
            [_of(r) for r in range(4)],
            curves={
                ("h", 0): h + logit(0.9) - h[0],
                ("h", 1): np.full(10, logit(0.98)),
                ("kl", 2): np.full(10, kl[0]),
                ("kl", 3): plateau,
            },
        ),
        _scene(
            "curve_above",
            [_of(r) | above for r in range(4)],
            curves={("student_knn", r): flat for r in range(4)}
            | {("knn", r): once if r % 2 else flat for r in range(4)},
        ),
        _scene(
            "peak_and_decline",
            [_of(r) | {"curve": "knn"} for r in range(4)],
            curves={("knn", r): lows if r % 2 else flat for r in range(4)},
        ),
        _scene(
            "curve_crosses",
            [{"first": row(a), "second": row(b), "curve": "knn"} for a, b in PAIRS],
            curves={
                **{("knn", r): flat for r in range(ROWS)},
                ("knn", 3): np.linspace(60, 60 - FAR, 5),
                ("knn", 5): np.linspace(60 + FAR, 60, 5),
                ("knn", 6): all_below,
                ("knn", 7): np.linspace(60 - FAR, 60 - 2 * FAR, 5),
            },
        ),
    ]


def _points(curve: str, *which: int) -> Array:
    return np.isin(np.arange(POINTS[curve]), which).astype(float)


TOWARDS: dict[str, dict[tuple[str, int], float | Array]] = {
    "collapse": {("kl", 0): -1.0, ("h", 1): 1.0, ("kl", 2): -1.0, ("h", 2): 1.0},
    "no_collapse": {
        ("information", 0): 1.0,
        ("kl", 1): 1.0,
        ("h", 1): -0.5,
        ("information", 1): 0.4,
    },
    "healthy": {("kl", 0): 1.0},
    "uniform_loss": {("loss", 0): 1.0, ("loss", 1): -1.0},
    "fails": {("knn", 1): -1.0},
    "works": {("knn", 1): 1.0},
    "rise_and_fall": {("h", 0): _points("h", 0)},
    "curve_above": {("knn", 0): np.ones(POINTS["knn"])},
    "peak_and_decline": {("knn", 0): _points("knn", 2)},
    "curve_crosses": {("knn", 1): _points("knn", 0) - _points("knn", POINTS["knn"] - 1)},
    "greater": {("knn", 0): 1.0},
    "no_worse": {("knn", 0): 1.0},
    "best": {("knn", 0): 1.0},
    "order": {("knn", 0): 3.0, ("knn", 1): 2.0, ("knn", 2): 1.0},
    "close": {("knn", 0): 1.0},
    "contrast": {("knn", 0): 1.0},
    "ratio": {("im_s", 0): 1.0},
    "smaller_gap": {("linear", 1): 1.0},
}  # how a scene's first claim comes true, in spreads
SCENES = {scene.kind: scene for scene in [*_states(), *_curves(), *_comparisons()]}
WITHOUT_CHANCE = ("decomposition", "tokens")  # identities: no test, nothing to be calibrated
