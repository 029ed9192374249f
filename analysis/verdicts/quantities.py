"""The numbers of a run that claims on rows rest on, each on the scale on which seeds vary alike.

Divergences and spreads are positive and vary by a share of themselves: logarithms. Entropies lie
between 0 and ln K and crowd at either end: logits of their share. What lies beyond a limit of
collapse by a factor of `BEYOND` is as collapsed as can be: further digits, in which seeds differ by
orders of magnitude, say nothing, so values are held there. A tenth (of a decade, of a logit) is
what these scales resolve: closer seeds count as that far apart. An accuracy varies at least as much
as counting right answers among the test images does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import expit

from analysis.evidence.measured import Quantity, counting_floor
from repro.dino.sentinel import HIGH, INFORMATION_LIMIT, KL_LIMIT, LOW, SPREAD_LIMIT
from repro.harness.runs.records import Record

BEYOND = 100.0
RESOLUTION = 0.1
OF_LOSS = 0.01  # resolution of loss / ln K
LARGEST = 99.0  # powers of ten that are written out
LEAST_SHARE, MOST_SHARE = LOW / BEYOND, 1 - (1 - HIGH) / BEYOND


def logarithm(value: float, limit: float = KL_LIMIT) -> float:
    """To base ten, of what is at least a hundredth of the limit."""
    return math.log10(max(value, limit / BEYOND))


def logit(share: float) -> float:
    share = min(max(share, LEAST_SHARE), MOST_SHARE)
    return math.log(share / (1 - share))


def positive(x: float) -> str:
    return f"{10 ** min(x, LARGEST):.2g}"


def of_one(x: float) -> str:
    """A share, more exactly where it is nearly all."""
    share, rest = float(expit(x)), float(expit(-x))
    return f"{share:.3g}" if rest > 0.01 else f"1 - {rest:.1g}"


def points(x: float) -> str:
    return f"{x:+.2f}"


def _resolved(_run: Record) -> float:
    return RESOLUTION


def _share(run: Record, metric: str) -> float:
    return run.metric(metric) / run.metric("log_K")


def _positive(name: str, of: Callable[[Record], float], limit: float) -> Quantity:
    return Quantity(name, of, _resolved, positive, lambda value: logarithm(value, limit))


def _of_log_K(name: str, metric: str) -> Quantity:
    return Quantity(name, lambda run: _share(run, metric), _resolved, of_one, logit)


KL = _positive("KL", lambda run: run.metric("kl"), KL_LIMIT)
SPREAD = _positive("spread of outputs", lambda run: run.metric("output_spread"), SPREAD_LIMIT)
# What targets say of the image: entropy of their mean minus their mean entropy.
INFORMATION = _positive(
    "information on the image, of ln K",
    lambda run: _share(run, "mean_entropy") - _share(run, "entropy"),
    INFORMATION_LIMIT,
)
ENTROPY = _of_log_K("h/ln K", "entropy")
MEAN_ENTROPY = _of_log_K("h/ln K of the batch mean", "mean_entropy")
GAIN = Quantity(
    "k-NN gained",
    lambda run: run.metric("knn") - run.metric("knn_random"),
    lambda run: counting_floor(run, "knn", "knn_random"),
    points,
    at_any_end=False,
)
LOSS = Quantity(
    "loss / ln K", lambda run: _share(run, "cross_entropy"), lambda _run: OF_LOSS, "{:.3f}".format
)
