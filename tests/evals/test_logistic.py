"""Logistic regression against the objective's own minimum, found by other means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from repro.cli.parser import main
from repro.errors import UserError
from repro.evals.logistic import PENALTIES, fit, logistic_accuracies
from repro.harness.runs.store import RunFolder
from tests.evals.test_linear import blobs


def objective(weights: Tensor, features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """The mean loss plus penalty / N times half the squared weights."""
    loss = cross_entropy(features @ weights.T, labels)
    return loss + penalty / len(features) * weights.square().sum() / 2


def minimum(features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """The weights [C, F] with the smallest objective."""
    weights = torch.zeros(4, features.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=2000, tolerance_grad=1e-10)

    def step() -> Tensor:
        solver.zero_grad()
        value = objective(weights, features, labels, penalty)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(step)  # type: ignore[no-untyped-call]
    return weights.detach()


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_the_classifier_is_the_optimum_without_intercept(penalty: float) -> None:
    features, labels = blobs(120, 0)
    model, converged = fit(features.double().numpy(), labels.numpy(), penalty)
    assert converged
    ours, theirs = torch.from_numpy(model.coef_), minimum(features.double(), labels, penalty)
    of_ours, of_theirs = (objective(w, features.double(), labels, penalty) for w in (ours, theirs))
    assert float(of_ours) == pytest.approx(float(of_theirs), rel=1e-4)
    assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()
    assert not model.intercept_.any()


def test_the_clean_tier_never_sees_test_labels() -> None:
    (train, labels), (test, truth) = blobs(200, 0), blobs(100, 1)
    found = logistic_accuracies(train, labels, test, truth)
    shuffled = logistic_accuracies(train, labels, test, truth.flip(0))
    assert found.penalty == shuffled.penalty
    assert found.penalty in PENALTIES
    assert found.official > 70
    assert found.converged
    assert set(found.metrics()) == {"logistic", "logistic_clean", "logistic_clean_penalty"}


def test_a_class_without_training_image_counts_as_mistakes() -> None:
    (train, labels), (test, truth) = blobs(200, 0), blobs(100, 1)
    seen = labels != 3
    found = logistic_accuracies(train[seen], labels[seen], test, truth)
    assert found.official <= 75
    one_each = logistic_accuracies(train[:4], labels[:4], test, truth)
    assert one_each.penalty == 0.1  # nothing to hold out


def test_what_cannot_be_classified_is_one_line() -> None:
    train, labels = blobs(20, 0)
    with pytest.raises(UserError, match="all training images are of one class"):
        logistic_accuracies(train, torch.zeros(20, dtype=torch.long), train, labels)
    with pytest.raises(UserError, match="not finite"):
        logistic_accuracies(train * float("nan"), labels, train, labels)


def test_low_shot_columns_are_filled_on_request(
    trained: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "logistic", "--weights", str(trained.path)]) == 0
    assert "logistic_clean_penalty" in capsys.readouterr().out
