"""A run that its config lets end on a collapse ends there, at an epoch's end, and nowhere else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.config.compose import compose
from repro.config.identity import canonical, run_id
from repro.data.dataset import Dataset
from repro.dino.sentinel import Sentinel
from repro.errors import UserError
from repro.train import Event, Trainer
from tests.conftest import MakeConfig

CPU = torch.device("cpu")
# Without centering one dimension dominates from step 11 or so on.
COLLAPSING = {"train.epochs": 15, "eval.every_epochs": 4, "target.centering": False}
STOPS = {"train.stop_on": "collapse", "train.stop_after": 0.4}
TIMES = ("images_per_second", "time_h", "im_s", "mem_G")
Ended = tuple[list[Event], dict[str, Any]]


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}


def train(trainer: Trainer) -> Ended:
    return [timeless(event) for event in trainer.run()], trainer.result()


@pytest.fixture(scope="module")
def whole(smoke: MakeConfig, smoke_data: Dataset) -> Ended:
    return train(Trainer(smoke(COLLAPSING), smoke_data, CPU))


@pytest.fixture(scope="module")
def early(smoke: MakeConfig, smoke_data: Dataset) -> Ended:
    return train(Trainer(smoke(COLLAPSING | STOPS), smoke_data, CPU))


def test_it_ends_with_the_first_epoch_at_whose_end_the_collapse_has_held_for_its_share(
    early: Ended, whole: Ended
) -> None:
    _, result = early
    step, since = result["stopped_on"]["step"], result["sentinel"]["since_step"]
    assert result["stopped_on"] == {"cause": "collapse", "step": step, "of": 60}
    assert result["sentinel"]["state"] == "one_dimension"
    assert step % 4 == 0
    assert step - since + 1 >= 0.4 * 60 > step - 4 - since + 1
    assert result["counts"]["steps"] == step < 60
    assert result["counts"]["images_seen"] == step * 32
    assert whole[1]["sentinel"]["state"] == "one_dimension"
    assert "stopped_on" not in whole[1]


def test_up_to_there_it_is_the_same_training_and_it_ends_with_an_evaluation(
    early: Ended, whole: Ended
) -> None:
    events, last = early[0], early[1]["stopped_on"]["step"]
    steps = [event for event in events if event["kind"] == "step"]
    assert steps == [e for e in whole[0] if e["kind"] == "step" and e["step"] <= last]
    evaluated = [event for event in events if event["kind"] == "eval"]
    assert [event["step"] for event in evaluated] == [0, *range(16, last, 16), last]
    assert early[1]["metrics"]["knn"] == evaluated[-1]["knn"]
    assert events[-1]["kind"] == "epoch"
    mean = sum(event["kl"] for event in steps[-4:]) / 4
    assert early[1]["metrics"]["kl"] == pytest.approx(mean)


@pytest.mark.parametrize("at", [13, 32])
def test_a_resumed_run_ends_at_the_same_step_with_the_same_numbers(
    at: int, early: Ended, smoke: MakeConfig, smoke_data: Dataset
) -> None:
    config = smoke(COLLAPSING | STOPS)
    first = Trainer(config, smoke_data, CPU)
    events = []
    for event in first.run():
        events.append(timeless(event))
        if event["kind"] == "step" and event["step"] == at:
            break
    state = copy.deepcopy(first.state_dict())
    again = Trainer(config, smoke_data, CPU, state)
    again.load_state_dict(state)
    later, result = train(again)
    assert events + later == early[0]
    assert timeless(result["metrics"]) == timeless(early[1]["metrics"])
    assert result["stopped_on"] == early[1]["stopped_on"]


def test_a_run_that_has_ended_early_does_not_go_on(smoke: MakeConfig, smoke_data: Dataset) -> None:
    trainer = Trainer(smoke(COLLAPSING | STOPS), smoke_data, CPU)
    train(trainer)
    again = Trainer(smoke(COLLAPSING | STOPS), smoke_data, CPU, trainer.state_dict())
    again.load_state_dict(trainer.state_dict())
    assert list(again.run()) == []
    assert again.result()["stopped_on"] == trainer.result()["stopped_on"]


def test_a_run_that_does_not_collapse_is_trained_to_its_end(
    smoke: MakeConfig, smoke_data: Dataset
) -> None:
    healthy = {"train.epochs": 8, "eval.every_epochs": 8, "train.stop_on": "collapse"}
    _, result = train(Trainer(smoke(healthy | {"train.stop_after": 0.05}), smoke_data, CPU))
    assert result["sentinel"]["state"] == "healthy"
    assert result["counts"]["steps"] == 32
    assert "stopped_on" not in result


def test_a_collapse_is_counted_from_where_it_was_last_seen_without_a_break() -> None:
    sentinel = Sentinel(log_K=1.0, grace=0, patience=5)
    for step in range(1, 11):
        sentinel.see(step, "uniform")
    assert sentinel.state == "uniform"
    assert sentinel.collapsed_for(10) == 10
    sentinel.see(11, "healthy")  # which does not end it, but breaks it
    assert (sentinel.state, sentinel.collapsed_for(11)) == ("uniform", 0)
    sentinel.see(12, "uniform")
    assert sentinel.collapsed_for(12) == 1
    sentinel.see(13, "constant")  # another form
    assert sentinel.collapsed_for(13) == 0


def test_before_it_is_ripe_and_where_a_loss_is_not_finite_nothing_has_collapsed() -> None:
    sentinel = Sentinel(log_K=1.0, grace=0, patience=5)
    for step in range(1, 5):
        sentinel.see(step, "uniform")
    assert sentinel.collapsed_for(4) == 0
    sentinel.see(5, "nan")
    assert (sentinel.state, sentinel.collapsed_for(5)) == ("nan", 0)


def test_it_makes_another_run_and_what_does_not_ask_for_it_is_the_run_it_was(
    smoke: MakeConfig,
) -> None:
    plain, stops = smoke(), smoke(STOPS)
    assert "stop_on" not in canonical(plain)["train"]
    assert canonical(stops)["train"]["stop_on"] == "collapse"
    assert canonical(stops)["train"]["stop_after"] == 0.4
    assert len({run_id(plain), run_id(stops), run_id(smoke(STOPS | {"train.stop_after": 1})),
                }) == 3  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.stop_on": "collapse"}, r"train\.stop_on=collapse says not for how long"),
        ({"train.stop_after": 0.2}, r"train\.stop_after=0\.2 without train\.stop_on=collapse"),
        (STOPS | {"train.stop_after": 1.5}, r"train\.stop_after=1\.5"),
        (STOPS | {"train.stop_on": "boredom"}, r"train\.stop_on=boredom"),
    ],
)
def test_a_stop_without_its_share_and_a_share_without_a_stop_are_refused(
    overrides: dict[str, Any], message: str, repository: Path
) -> None:
    with pytest.raises(UserError, match=message):
        compose(repository / "experiments", "smoke", overrides)
