"""Multinomial logistic regression on frozen features, no augmentation (App. A, Tables 10 and 12).

The paper uses cyanure, and its author posted the call (issue 121): l2 penalty 0.1 / N, no
intercept, at most 100 epochs, raw features of the last [CLS]. The objective is convex, so that any
solver that converges finds the same classifier; here scikit-learn's L-BFGS.

Two tiers. `official`: that penalty. `clean`: the penalty that is best for held-out training images,
then all of them; the test images choose nothing.

Shapes: N train images, M test images, H held-out images, F width of the features, C classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from repro.errors import UserError
from repro.evals.judged import Keep, forget
from repro.evals.linear import held_out

PENALTY = 0.1  # times 1 / N, on the mean loss plus half the squared weights
PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
ITERATIONS = 1000
SMALL = 10_000_000  # numbers, up to which threads wait for each other longer than they compute
Array = NDArray[np.float64]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class LogisticResult:
    """Accuracies in percent; `converged`: whether both classifiers are the optimum."""

    official: float
    clean: float
    penalty: float
    converged: bool

    def metrics(self) -> dict[str, float]:
        return {
            "logistic": self.official,
            "logistic_clean": self.clean,
            "logistic_clean_penalty": self.penalty,
        }


def logistic_accuracies(
    train_NF: Tensor,
    labels_N: Tensor,
    test_MF: Tensor,
    labels_M: Tensor,
    seed: int = 0,
    keep: Keep = forget,
) -> LogisticResult:
    """Train on train features, count on test features.

    A class without training image cannot be found: its test images count as mistakes.

    Args:
        keep: takes which test images are named right, by number.

    Raises:
        UserError: fewer than two classes, or features that are not finite.
    """
    features, tests = _array(train_NF), _array(test_MF)
    classes, truth = labels_N.numpy(), labels_M.numpy()
    if len(np.unique(classes)) < 2:
        raise UserError("logistic regression: all training images are of one class")
    if not (np.isfinite(features).all() and np.isfinite(tests).all()):
        raise UserError("logistic regression: features that are not finite; the training diverged")
    official, first = fit(features, classes, PENALTY)
    held = held_out(labels_N, seed).numpy()
    penalty = PENALTY
    if held.any() and len(np.unique(classes[~held])) > 1:
        scores = []
        for candidate in PENALTIES:
            tried, _ = fit(features[~held], classes[~held], candidate)
            scores.append(_percent(_right(tried, features[held], classes[held])))
        # Of equally good ones the strongest penalty.
        penalty = max(zip(scores, PENALTIES, strict=True))[1]
    clean, second = fit(features, classes, penalty)
    right = {"logistic": official, "logistic_clean": clean}
    right_M = {name: _right(model, tests, truth) for name, model in right.items()}
    for name, of_images in right_M.items():
        keep(name, torch.from_numpy(of_images))
    return LogisticResult(
        official=_percent(right_M["logistic"]),
        clean=_percent(right_M["logistic_clean"]),
        penalty=penalty,
        converged=first and second,
    )


def fit(
    features: Array, classes: NDArray[np.int64], penalty: float
) -> tuple[LogisticRegression, bool]:
    """The classifier with penalty / N on half the squared weights, and whether it converged."""
    # scikit-learn minimises C x the sum of losses + half the squared weights.
    model = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-4, max_iter=ITERATIONS)
    threads = 1 if features.size <= SMALL else None
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads, "blas"):
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, classes)
    return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _right(model: LogisticRegression, features: Array, classes: Classes) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = model.predict(features) == classes
    return right


def _percent(right_M: NDArray[np.bool_]) -> float:
    return float(100 * right_M.mean())


def _array(features: Tensor) -> Array:
    return features.to(torch.float64).cpu().numpy()
