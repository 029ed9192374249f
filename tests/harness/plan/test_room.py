"""How many runs a machine trains at a time, where nobody says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from msgspec import structs

from repro.config.schema import RunConfig
from repro.data.views.kinds import view_kinds
from repro.dino.networks import build_student
from repro.harness.experiments.clusters import LocalCluster
from repro.harness.experiments.experiment import load, row_config
from repro.harness.plan import room
from repro.harness.plan.forecast import forecast
from repro.harness.plan.plan import plan
from repro.harness.plan.room import CONTEXT, memory, runs_a_card, workers_here

HERE = LocalCluster(name="local")
GIB = 2**30


def config(scale: str) -> RunConfig:
    experiment = load("F7")
    return row_config(experiment, experiment.rows[0], scale, 0, experiment.runs_a_row[0])


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Sixteen cores and an empty card of 80 GiB."""
    monkeypatch.setattr(room, "available_cores", lambda: 16)
    monkeypatch.setattr(room, "visible_gpus", lambda: ["GPU-a"])
    monkeypatch.setattr(room, "free_gpu_memory", lambda _: 80 * GIB)
    return monkeypatch


def test_small_runs_share_a_card_up_to_the_cores_and_large_ones_have_one_each() -> None:
    sizes = [runs_a_card(config(scale), 16, 80 * GIB) for scale in ("laptop", "gpu", "paper")]
    assert sizes[0] == 16
    assert 1 < sizes[1] < 8
    assert sizes[2] == 1


def test_memory_bounds_how_many_share_a_card_but_never_below_one() -> None:
    small = config("laptop")
    assert runs_a_card(small, 16, 3.5 * memory(small)) == 3
    assert runs_a_card(small, 16, 0.5 * memory(small)) == 1


@pytest.mark.usefixtures("machine")
def test_a_machine_trains_as_many_as_it_is_asked_for_or_as_fit() -> None:
    runs = [config("laptop")] * 40
    assert workers_here(HERE, runs) == 16
    assert workers_here(HERE, runs[:3]) == 3
    assert workers_here(HERE, runs, 2) == 2
    profile = structs.replace(HERE, workers=5)
    assert workers_here(profile, runs) == 5
    assert workers_here(profile, runs, 0) == 16  # --workers auto
    assert workers_here(HERE, [*runs, config("paper")]) == 1  # the largest decides
    assert workers_here(HERE, []) == 1


def test_runs_of_several_ranks_or_without_a_gpu_do_not_share_one(
    machine: pytest.MonkeyPatch,
) -> None:
    small = config("laptop")
    pairs = replace(small, resources=replace(small.resources, ranks=2))
    machine.setattr(room, "visible_gpus", lambda: ["GPU-a", "GPU-b", "GPU-c", "GPU-d"])
    assert workers_here(HERE, [pairs] * 9) == 2
    assert workers_here(HERE, [small] * 90) == 16  # four cores a card
    machine.setattr(room, "visible_gpus", list)
    assert workers_here(HERE, [small] * 40) == 16


@pytest.mark.usefixtures("machine")
def test_a_forecast_says_how_many_will_train_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.harness.plan.forecast.visible_gpus", lambda: ["GPU-a"])
    planned = plan(["F7"], "laptop", 5, tmp_path)
    assert forecast(planned, HERE, tmp_path, None).at_a_time == 16
    assert forecast(planned, HERE, tmp_path, 3).at_a_time == 3


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_a_runs_memory_is_estimated_from_above_and_not_by_far(scale: str) -> None:
    """Beside what autograd keeps of a real forward pass of all views through student and head."""
    one, batch = config(scale), 8
    sizes = [kind.size for kind in view_kinds(one.views)]
    student, kept = build_student(one), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        views = [torch.zeros(batch * sizes.count(s), 3, s, s) for s in dict.fromkeys(sizes)]
        logits = student(views).logits_MK
    assert logits.requires_grad
    weights = sum(p.untyped_storage().nbytes() for p in student.parameters())
    per_image = (sum(kept.values()) - weights) / batch
    estimated = (memory(one) - CONTEXT) / one.train.batch_size
    assert per_image < estimated < 4 * per_image
