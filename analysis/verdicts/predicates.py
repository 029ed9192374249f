"""What collapse, health and "rises, then falls" mean, for the paper's numbers and for ours alike.

Sec. 5.3: KL(Pt|Ps) equal to zero indicates a constant output, hence a collapse; its two forms are a
uniform output (entropy = ln K) and one dominant dimension (entropy = 0). The thresholds are those
of the collapse sentinel. They are ours, not the paper's, and were fixed before any run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from repro.dino.sentinel import HIGH, KL_LIMIT, LOW

START_HIGH = 0.9  # of ln K: where the entropy of a healthy run begins
CHANCE = 1 / 1000  # top-1 of a constant output on ImageNet
VALIDATION_IMAGES = 50_000


def collapsed(
    entropy: float, kl: float, mean_entropy: float | None, log_K: float, form: str | None = None
) -> bool:
    """Whether the output is constant, in nats; in the given form, or in either.

    One dimension also needs a low entropy of the batch-mean target: sharp targets that differ
    between images are healthy. The paper prints no such number; `None` leaves that part out.
    """
    same_for_all = mean_entropy is None or mean_entropy / log_K < LOW
    shapes = {
        "uniform": entropy / log_K > HIGH,
        "one_dimension": entropy / log_K < LOW and same_for_all,
    }
    return kl < KL_LIMIT and (shapes[form] if form else any(shapes.values()))


def healthy(entropy: float, kl: float, log_K: float) -> bool:
    return kl > KL_LIMIT and LOW < entropy / log_K < HIGH


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


def token_count(resolution: int, patch: int) -> int:
    """Patches and the class token (Table 1)."""
    side = resolution // patch
    return side * side + 1


def at_chance(accuracy: float) -> bool:
    """Whether an ImageNet top-1 accuracy in percent is that of a constant output."""
    noise = 3 * math.sqrt(CHANCE * (1 - CHANCE) / VALIDATION_IMAGES)
    return accuracy / 100 <= max(2 * CHANCE, CHANCE + noise)


def comparison_steps(kind: str, body: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """A comparison claim as steps (better, worse, margin) that must all hold."""
    if kind in ("greater", "no_worse"):
        return [(body["better"], body["worse"], float(body.get("margin", 0.0)))]
    if kind == "best":
        return [(body["best"], other, 0.0) for other in body["among"]]
    assert kind == "order", f"claim kind '{kind}' has no comparison"
    return [(a, b, 0.0) for a, b in pairwise(body["order"])]
