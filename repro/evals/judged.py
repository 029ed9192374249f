"""How every test item did, and what the mean over them would be for other items of their kind.

A protocol's number is a mean: of images that are named right or wrong, of queries' average
precisions, of masks' Jaccard indices. What it would be for other test images is told by drawing as
many of these again, with repetition, two thousand times (Efron's bootstrap, percentiles). It says
nothing of other trainings: those take seeds. Two networks that were judged on the same images are
compared image by image, which takes out what they find equally hard.

Shapes: M test items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor

CONFIDENCE = 0.95
RESAMPLES = 2000
Values = NDArray[np.float64]
# Takes, under the name of a number, what each item contributes to it, from 0 to 1.
Keep = Callable[[str, "Tensor | Sequence[float]"], None]


def forget(_name: str, _items: Tensor | Sequence[float]) -> None:
    """For those who want the numbers alone."""


def interval(values_M: Values, seed: int = 0) -> tuple[float, float] | None:
    """Where the mean of other items would lie with 95 % confidence; None where these cannot tell.

    Drawing M items again is drawing how often each value comes, so that two thousand draws of
    50,000 right and wrong answers are as many draws from a binomial distribution. Where all answers
    are right, or all wrong, each draw is the same, and the exact bounds of a share are taken
    (Clopper and Pearson 1934).
    """
    count = len(values_M)
    if count < 2:
        return None
    values, times = np.unique(values_M, return_counts=True)
    if len(values) == 1:
        return _of_one_kind(float(values[0]), count)
    drawn = np.random.default_rng(seed).multinomial(count, times / count, RESAMPLES)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn @ values / count, [tail, 1 - tail])
    return float(low), float(high)


def _of_one_kind(value: float, count: int) -> tuple[float, float] | None:
    tail = (1 - CONFIDENCE) / 2
    if value == 1:
        return float(betaincinv(count, 1, tail)), 1.0
    if value == 0:
        return 0.0, float(betaincinv(1, count, 1 - tail))
    return None


def difference(values_M: Values, of_first_M: Values) -> tuple[float, tuple[float, float] | None]:
    """The mean difference to the first network on the same items, and its interval.

    None where no item tells them apart: nothing can then be said of how far apart they may be.
    """
    apart_M = values_M - of_first_M
    return float(apart_M.mean()), interval(apart_M) if apart_M.any() else None
