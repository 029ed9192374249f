"""Resume, events and failures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from repro.config.schema import Precision, RunConfig, TeacherKind
from repro.data.dataset import Dataset
from repro.errors import UserError
from repro.harness.runs import checkpoint
from repro.train import Diverged, Trainer

CPU = torch.device("cpu")


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "images_per_second"}


@pytest.mark.parametrize("kind", [TeacherKind.momentum, TeacherKind.previous_epoch])
@pytest.mark.parametrize("stop", [1, 4, 6])
@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    kind: TeacherKind, stop: int, smoke_config: RunConfig, smoke_data: Dataset, tmp_path: Path
) -> None:
    smoke_config.teacher.kind = kind
    whole = Trainer(smoke_config, smoke_data, CPU)
    expected = [without_time(event) for event in whole.run()]

    first = Trainer(smoke_config, smoke_data, CPU)
    seen = []
    for event in first.run():
        seen.append(without_time(event))
        if event["kind"] == "step" and event["step"] == stop:
            break
    checkpoint.save(tmp_path, first.state_dict())

    torch.manual_seed(12345)  # nothing may lean on the process's random state
    second = Trainer(smoke_config, smoke_data, CPU)
    state = checkpoint.load(tmp_path)
    assert state is not None
    second.load_state_dict(state)
    seen += [without_time(event) for event in second.run()]

    steps = [event for event in seen if event["kind"] == "step"]
    assert steps == [event for event in expected if event["kind"] == "step"]
    for name, tensor in whole.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name]), name
    for name, tensor in whole.teacher.state_dict().items():
        assert torch.equal(tensor, second.teacher.state_dict()[name]), name
    for name, tensor in whole.method.state_dict().items():
        assert torch.equal(tensor, second.method.state_dict()[name]), name
    ours, theirs = second.result(), whole.result()
    for result in (ours, theirs):
        for measured_by_a_clock in ("im_s", "time_h", "mem_G"):
            result["metrics"].pop(measured_by_a_clock)
    assert ours == theirs


def test_the_first_event_carries_the_floors(smoke_config: RunConfig, smoke_data: Dataset) -> None:
    event = next(iter(Trainer(smoke_config, smoke_data, CPU).run()))
    assert event["kind"] == "eval"
    assert event["knn"] == event["student_knn"] == event["knn_random"]
    assert 0 < event["knn_pixels"] < 100


def test_every_step_reports_all_diagnostics(smoke_config: RunConfig, smoke_data: Dataset) -> None:
    event = next(e for e in Trainer(smoke_config, smoke_data, CPU).run() if e["kind"] == "step")
    named = "loss entropy cross_entropy kl mean_entropy centre_norm feature_spread effective_rank"
    named += " student_teacher_distance grad_norm lr weight_decay momentum teacher_temp"
    named += " images_per_second sentinel step epoch decomposition_error"
    assert set(named.split()) <= set(event)
    assert event["lr"] == 0.0  # the warm-up starts at zero
    assert event["cross_entropy"] == pytest.approx(event["entropy"] + event["kl"], abs=1e-6)


def test_a_non_finite_loss_raises_with_its_step(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    trainer = Trainer(smoke_config, smoke_data, CPU)
    events = trainer.run()
    assert next(events)["kind"] == "eval"
    next(events)
    with torch.no_grad():
        next(trainer.student.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged) as raised:
        next(events)
    assert raised.value.step == 2
    assert trainer.step == 1  # the last good state is still there to be saved
    assert trainer.sentinel.state == "nan"


def test_a_batch_larger_than_the_data_is_refused(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    smoke_config.train.batch_size = 1000
    with pytest.raises(UserError, match=r"train\.batch_size=1000 is larger than the 128"):
        Trainer(smoke_config, smoke_data, CPU)


def test_rows_of_one_seed_start_from_the_same_weights_and_see_the_same_views(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    first = Trainer(smoke_config, smoke_data, CPU)
    smoke_config.teacher.kind = TeacherKind.student_copy
    second = Trainer(smoke_config, smoke_data, CPU)
    first_step = [next(e for e in t.run() if e["kind"] == "step") for t in (first, second)]
    assert first_step[0]["loss"] == first_step[1]["loss"]


def test_a_resnet_trains_and_keeps_its_own_batch_statistics(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    from repro.config.schema import Family

    smoke_config.model.family, smoke_config.model.name = Family.timm, "resnet10t"
    trainer = Trainer(smoke_config, smoke_data, CPU)
    for event in trainer.run():
        if event["step"] == 2:
            break
    buffers = dict(trainer.teacher.backbone.named_buffers())
    ours = dict(trainer.student.backbone.named_buffers())
    name = next(name for name in buffers if name.endswith("running_mean"))
    assert not torch.equal(buffers[name], ours[name])


def test_bfloat16_trains_close_to_single_precision(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    losses = []
    for precision in Precision:
        smoke_config.train.precision = precision
        trainer = Trainer(smoke_config, smoke_data, CPU)
        steps = [e["loss"] for e in trainer.run() if e["kind"] == "step"]
        losses.append(steps)
        assert all(p.dtype == torch.float32 for p in trainer.student.parameters())
    assert losses[0] != losses[1]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.05)
