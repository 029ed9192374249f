"""How values of seeds scatter about the means of their rows: what the verdicts must withstand.

Shapes: R rows, N seeds, E points of a curve, B repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Random = np.random.Generator
OF_COLLAPSED = 8.0  # its spread, times that of the others


def _equal(_random: Random, rows: int, _repetitions: int) -> Array:
    return np.ones((rows, 1))


def _geometric(_random: Random, rows: int, _repetitions: int) -> Array:
    """From 0.5 to 2, neighbours unlike."""
    order = np.argsort(np.arange(rows) * 0.618 % 1.0)
    return (2.0 ** np.linspace(-1, 1, rows))[order, None]


def _lognormal(random: Random, rows: int, repetitions: int) -> Array:
    return np.exp(random.normal(0, 0.5, (rows, repetitions)))


def _normal(random: Random, shape: tuple[int, ...]) -> Array:
    return random.normal(size=shape)


def _gamma(random: Random, shape: tuple[int, ...]) -> Array:
    return (random.gamma(2.0, size=shape) - 2.0) / math.sqrt(2.0)


@dataclass(frozen=True)
class Noise:
    """
    Args:
        spreads: of the rows, R x 1 or R x B.
        standard: values of so many independent seeds, of mean 0 and variance 1.
        shared: part of the variance that all rows of a seed, and all points of a curve, share.
        along: correlation of neighbouring points of a curve.
        collapsed: whether one row is, and has a spread of its own.
        images: accuracies differ by so many whole test images at most; else None.
    """

    name: str
    spreads: Callable[[Random, int, int], Array] = _equal
    standard: Callable[[Random, tuple[int, ...]], Array] = _normal
    shared: float = 0.0
    along: float = 0.0
    collapsed: bool = False
    images: int | None = None

    def spreads_RB(
        self, random: Random, rows: int, repetitions: int, collapsed: int | None
    ) -> Array:
        spreads_RB = self.spreads(random, rows, repetitions)
        if collapsed is None:
            return spreads_RB
        return spreads_RB * np.where(np.arange(rows) == collapsed, OF_COLLAPSED, 1.0)[:, None]

    def scattered(self, random: Random, shape_RNEB: tuple[int, int, int, int]) -> Array:
        """Standardised, before spreads."""
        own = self.standard(random, shape_RNEB)
        if self.along:
            for e in range(1, shape_RNEB[2]):
                fresh = math.sqrt(1 - self.along**2) * own[:, :, e]
                own[:, :, e] = self.along * own[:, :, e - 1] + fresh
        if not self.shared:
            return own
        common = self.standard(random, (1, shape_RNEB[1], 1, shape_RNEB[3]))
        return math.sqrt(1 - self.shared) * own + math.sqrt(self.shared) * common


NOISES = {
    noise.name: noise
    for noise in (
        Noise("equal spreads"),
        Noise("spreads from 0.5 to 2", _geometric),
        Noise("log-normal spreads", _lognormal),
        Noise("a collapsed row", collapsed=True),
        Noise("skewed values", standard=_gamma),
        Noise("seeds in common", shared=0.8),
        Noise("drifting curves", along=0.9),
        Noise("ties at the floor", images=2),
    )
}
