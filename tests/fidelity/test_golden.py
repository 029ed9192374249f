"""Twenty steps of our trainer against twenty steps of the authors' code (golden.json).

The fixture was made once by `make_golden.py` from the checkout it names. Learning rate, weight
decay, momentum and temperature move, the last layer is frozen for the first five steps, tensors are
clipped one by one, local crops of 96 need resampled positions, the prototypes' norms are trained.
"""

from __future__ import annotations

import pytest
import torch

from repro.config.schema import CodePath
from repro.dino.networks import build_student
from repro.train import Trainer
from tests.fidelity import inputs
from tests.fidelity.trajectory import (
    GOLDEN,
    apart,
    config,
    losses_of,
    our_name,
    trainer_at_the_start,
)


@pytest.fixture(scope="module", params=list(CodePath), ids=lambda path: path.value)
def trained(request: pytest.FixtureRequest) -> tuple[list[float], Trainer]:
    torch.set_num_threads(1)
    trainer = trainer_at_the_start(request.param, torch.device("cpu"))
    return losses_of(trainer), trainer


def test_the_losses_of_twenty_steps_equal_the_authors(
    trained: tuple[list[float], Trainer],
) -> None:
    assert trained[0] == pytest.approx(GOLDEN["losses"], rel=1e-5)


@pytest.mark.parametrize("name", GOLDEN["final"])
def test_student_teacher_and_centre_end_where_the_authors_do(
    name: str, trained: tuple[list[float], Trainer]
) -> None:
    found = apart(name, trained[1])
    assert found.norm <= 1e-4
    assert found.entry < 1e-4


def test_the_trajectory_moves_far_more_than_the_tolerance() -> None:
    weights = {n: v for n, v in GOLDEN["final"].items() if n.startswith("student")}
    moved, shapes = [], {n: p.shape for n, p in build_student(config()).named_parameters()}
    for name, tensor in weights.items():
        if name.endswith(("proj.weight", "fc1.weight", "weight_v")):
            place = name.partition(".")[2]
            shape = shapes[our_name(place)]
            start = inputs.summary(inputs.initial(place, shape))["entries"]
            pairs = zip(tensor["entries"], start, strict=True)
            moved.append(max(abs(a - b) for a, b in pairs))
    assert min(moved) > 5e-3
    assert max(GOLDEN["losses"]) > 2 * min(GOLDEN["losses"])
