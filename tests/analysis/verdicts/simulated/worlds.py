"""What the runs of a scene measure, repetition by repetition: a `World`, in the units of records.

Shapes: R rows, N seeds, E points of a curve, B repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from repro.dino.sentinel import HIGH, INFORMATION_LIMIT, KL_LIMIT, LOW, SPREAD_LIMIT
from tests.analysis.verdicts.simulated.noises import Array, Noise, Random
from tests.analysis.verdicts.simulated.scenes import POINTS, ROWS, Scene

LOG_K = math.log(65536)
RANDOM = 50.0  # k-NN of networks before training
IMAGES = 1024
ACCURACIES = ("knn", "student_knn", "linear")
# What one value of a typical run varies by, on the scale of its quantity.
SPREADS = {
    "kl": 0.25, "h": 0.4, "mean_h": 0.4, "information": 0.25, "loss": 0.02, "output_spread": 0.25,
    "knn": 0.7, "student_knn": 0.7, "linear": 0.7, "im_s": 0.05,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class World:
    """What runs measure, in the units of records; `metrics` R x N x B, `curves` R x N x E x B.

    Args:
        collapsed: a row that is, whatever its numbers say.
        seeds_R: how many seeds each row has, of those that there are.
    """

    metrics: Mapping[str, Array]
    curves: Mapping[str, Array]
    collapsed: int | None
    images: int | None
    seeds_R: tuple[int, ...]

    @property
    def repetitions(self) -> int:
        return self.metrics["knn"].shape[2]

    @cached_property
    def healthy_RB(self) -> npt.NDArray[np.bool_]:
        """Rows whose runs all are, by the rule of the sentinel."""
        m = self.metrics
        h, mean_h = m["entropy"] / LOG_K, m["mean_entropy"] / LOG_K
        uniform = (m["kl"] < KL_LIMIT) & (h > HIGH)
        one_dimension = (m["kl"] < KL_LIMIT) & (h < LOW) & (mean_h < LOW)
        outputs = uniform | one_dimension | (mean_h - h < INFORMATION_LIMIT)
        vectors = ~np.isnan(m["output_spread"])
        collapsed_RNB = np.where(vectors, m["output_spread"] < SPREAD_LIMIT, outputs)
        its = zip(self.seeds_R, collapsed_RNB, strict=True)
        collapsed = np.array([collapsed_NB[:n].any(axis=0) for n, collapsed_NB in its])
        if self.collapsed is not None:
            collapsed[self.collapsed] = True
        return ~collapsed

    def of(self, chosen_B: npt.NDArray[np.bool_]) -> World:
        """Some of the repetitions."""
        return replace(
            self,
            metrics={name: values[..., chosen_B] for name, values in self.metrics.items()},
            curves={name: values[..., chosen_B] for name, values in self.curves.items()},
        )


def draw(
    scene: Scene,
    noise: Noise,
    seeds: int,
    repetitions: int,
    random: Random,
    *,
    beyond: float = 0.0,
    towards: float = 0.0,
) -> World:
    """
    Args:
        beyond: by so many spreads the means of each repetition lie off those of the scene.
        towards: by so many they lie where the first claim is true.
    """
    collapsed = scene.collapsed if noise.collapsed else None
    spreads_RB = noise.spreads_RB(random, ROWS, repetitions, collapsed)

    def scattered(quantity: str, points: int) -> Array:
        shape = (ROWS, seeds, points, repetitions)
        if noise.images is not None and quantity in ACCURACIES:
            return random.integers(-noise.images, noise.images + 1, shape) * (100 / IMAGES)
        off = beyond * random.normal(size=(ROWS, 1, points, repetitions))
        scattered = noise.scattered(random, shape) + off
        return scattered * (SPREADS[quantity] * spreads_RB)[:, None, None, :]

    images = IMAGES if noise.images is not None else None
    return _world(scene, scattered, towards, (seeds,) * ROWS, collapsed, images)


TYPICAL = 24  # seeds


def typical(scene: Scene, towards: float) -> World:
    """One repetition whose means and variances are the true ones, nothing in common to any two
    rows: contrasts of seeds that are orthogonal."""

    def contrasts(quantity: str, points: int) -> Array:
        seed = (np.arange(TYPICAL) + 0.5) / TYPICAL
        offset = 8 if quantity == "linear" else 10 if quantity == "student_knn" else 0
        of_RE = offset + (np.arange(ROWS) if points == 1 else 10 * (np.arange(ROWS) % 2))[:, None]
        of_RE = (of_RE + np.arange(points)) % (TYPICAL - 1) + 1
        waves_REN = np.cos(np.pi * of_RE[:, :, None] * seed)
        scaled_REN = waves_REN * math.sqrt(2 * (TYPICAL - 1) / TYPICAL) * SPREADS[quantity]
        return scaled_REN.transpose(0, 2, 1)[..., None]

    return _world(scene, contrasts, towards, (TYPICAL,) * ROWS, None, None)


def _world(
    scene: Scene,
    scattered: Callable[[str, int], Array],
    towards: float,
    seeds_R: tuple[int, ...],
    collapsed: int | None,
    images: int | None,
) -> World:
    """Args: scattered: by quantity and number of points, about the means, R x N x E x B."""
    moved = {key: towards * SPREADS[key[0]] * np.asarray(by) for key, by in scene.towards.items()}

    def means(quantity: str) -> Array:
        means_R = scene.means_R(quantity)
        for (name, r), by in moved.items():
            if name == quantity and by.ndim == 0:
                means_R[r] += by
        return means_R[:, None, None] + scattered(quantity, 1)[:, :, 0]

    def points(curve: str) -> Array:
        means_RE = scene.means_RE(curve)
        for (name, r), by in moved.items():
            if name == curve and by.ndim:
                means_RE[r] += by
        return means_RE[:, None, :, None] + scattered(curve, POINTS[curve])

    drawn = {quantity: means(quantity) for quantity in SPREADS}
    h = expit(drawn["h"])
    of_information = h + 10 ** drawn["information"]
    metrics = {
        "kl": 10 ** drawn["kl"],
        "entropy": LOG_K * h,
        "mean_entropy": LOG_K * np.where(
            np.isnan(drawn["mean_h"]), of_information, expit(drawn["mean_h"])
        ),
        "cross_entropy": LOG_K * drawn["loss"],
        "output_spread": 10 ** drawn["output_spread"],
        "im_s": np.exp(drawn["im_s"]),
        **{name: drawn[name] for name in ("knn", "student_knn", "linear")},
    }  # fmt: skip
    curves = {curve: points(curve) for curve in POINTS}
    return World(
        metrics,
        curves | {"h": LOG_K * expit(curves["h"]), "kl": 10 ** curves["kl"]},
        collapsed,
        images,
        seeds_R,
    )
