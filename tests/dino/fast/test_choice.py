"""How a kernel is chosen, that it is remembered, and when it is asked for again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.config.schema import CodePath, Precision, RunConfig
from repro.data.dataset import Dataset
from repro.dino.fast import choice
from repro.dino.fast.choice import (
    LEAST_ROUNDS,
    MOST_MEASUREMENTS,
    REST,
    Choice,
    choose_kernels,
    decide,
    fastest,
    measure,
    named_kernels,
)
from repro.dino.fast.kernels import Kernels
from repro.train import Trainer

CPU = torch.device("cpu")
QUIET, BUSY = 0.1, 5.0
Call = Callable[[], object]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "repro-dino" / "chosen_kernels.json"


class Machine:
    """One whose clock only candidates move on, and which is as busy as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.calls = 0.0, list[str]()
        monkeypatch.setattr(choice, "time", self)
        monkeypatch.setattr(choice, "available_cores", lambda: 4)
        monkeypatch.setattr(os, "getloadavg", lambda: (4 * self.load, 0.0, 0.0))
        self.load = QUIET

    def perf_counter(self) -> float:
        return self.now

    time = process_time = perf_counter

    def candidates(self, **seconds: float | list[float]) -> dict[str, Call]:
        def candidate(name: str, took: Iterator[float]) -> Call:
            def call() -> None:
                self.calls.append(name)
                self.now += next(took)

            return call

        return {
            name: candidate(name, cycle(took if isinstance(took, list) else [took]))
            for name, took in seconds.items()
        }

    def ask(self, **seconds: float | list[float]) -> str:
        self.calls.clear()
        return fastest("which?", "cpu", self.candidates(**seconds))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_the_usual_kernel_stays_unless_another_is_clearly_faster(machine: Machine) -> None:
    for other, name in ((3.0, "usual"), (1.0, "usual"), (0.97, "usual"), (0.95, "other")):
        assert measure("cpu", machine.candidates(usual=1.0, other=other)).name == name


def test_an_answer_is_remembered_for_this_machine(machine: Machine, cache: Path) -> None:
    assert machine.ask(usual=3.0, other=1.0) == "other"
    assert machine.ask(usual=1.0, other=3.0) == "other"
    assert machine.calls == []
    ((key, kept),) = json.loads(cache.read_text())["answers"].items()
    assert "which?" in key
    assert torch.__version__ in key
    assert f"{torch.get_num_threads()} threads" in key
    assert kept["milliseconds"] == {"usual": [3000.0] * 3, "other": [1000.0] * 3}
    assert (kept["clear"], kept["load"]) == (True, QUIET)


def test_a_torn_cache_is_made_anew_and_a_missing_folder_is_no_obstacle(
    machine: Machine, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.mkdir()
    cache.write_text('{"half')
    assert machine.ask(usual=3.0, other=1.0) == "other"
    assert json.loads(cache.read_text())["answers"]
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert machine.ask(usual=3.0, other=1.0) == "other"


@pytest.mark.parametrize(
    "kept", ['"other"', '{"name": "other"}'], ids=["a name alone", "without what it rests on"]
)
def test_an_answer_of_an_older_version_is_made_anew(
    kept: str, machine: Machine, cache: Path
) -> None:
    machine.ask(usual=1.0, other=3.0)
    (key,) = json.loads(cache.read_text())["answers"]
    cache.write_text(json.dumps({key: json.loads(kept)}))
    assert machine.ask(usual=1.0, other=3.0) == "usual"
    assert machine.calls


def test_another_candidate_asks_the_question_anew(machine: Machine) -> None:
    assert machine.ask(usual=2.0, other=1.0) == "other"
    assert machine.ask(usual=2.0, other=1.0, third=0.5) == "third"
    assert machine.ask(usual=2.0, other=1.0) == "other"


UNSURE: dict[str, Any] = {"usual": 1.0, "other": [0.9, 0.9, 0.99, 0.99, 0.99]}


def test_a_choice_within_the_noise_is_measured_again_only_when_the_machine_is_quieter(
    machine: Machine,
) -> None:
    machine.load = BUSY
    machine.ask(**UNSURE)
    for load, again in ((BUSY, False), (1.0, False), (0.9, True), (0.9, False), (QUIET, True)):
        machine.now += REST
        machine.load = load
        machine.ask(**UNSURE)
        assert bool(machine.calls) is again, load


def test_a_choice_within_the_noise_holds_for_an_hour(machine: Machine) -> None:
    machine.load = BUSY
    machine.ask(**UNSURE)
    machine.load = QUIET
    for wait, again in ((REST - 1, False), (1, True)):
        machine.now += wait
        machine.ask(**UNSURE)
        assert bool(machine.calls) is again


def test_a_tie_is_not_measured_for_ever(machine: Machine, cache: Path) -> None:
    measured = 0
    for number in range(10):
        machine.now += REST
        machine.load = 0.9**number
        machine.ask(**UNSURE)
        measured += bool(machine.calls)
    assert measured == MOST_MEASUREMENTS
    (kept,) = json.loads(cache.read_text())["answers"].values()
    assert kept["measurements"] == MOST_MEASUREMENTS


def test_a_choice_within_the_noise_ends_as_a_clear_one(machine: Machine) -> None:
    machine.load = BUSY
    machine.ask(**UNSURE)
    machine.now, machine.load = machine.now + REST, QUIET
    assert machine.ask(usual=2.0, other=1.0) == "other"
    machine.now, machine.load = machine.now + REST, QUIET / 2
    assert machine.ask(usual=1.0, other=2.0) == "other"


def test_rounds_are_compared_one_by_one() -> None:
    slowing = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert decide({"usual": slowing, "other": [s / 1.5 for s in slowing]}) == ("other", True)
    assert decide({"usual": slowing, "other": [s / 1.03 for s in slowing]}) == ("usual", True)
    assert decide({"usual": slowing}) == ("usual", True)


@pytest.mark.parametrize(
    ("other", "answer"),
    [
        ([0.5, 0.5, 0.5, 0.5, 9.0], ("other", True)),  # one disturbed round
        ([0.5, 0.5, 0.5, 9.0, 9.0], ("other", False)),
        ([9.0, 9.0, 9.0, 9.0, 0.5], ("usual", False)),  # was it fast, when it was not disturbed?
        ([0.98, 0.98, 0.98, 0.9, 0.9], ("usual", False)),
        ([0.8, 0.8, 0.8, 0.9, 0.9], ("other", True)),
        ([0.8, 0.8, 0.8, 1.1, 1.1], ("other", False)),
    ],
)
def test_what_the_rounds_disagree_about_is_within_the_noise(
    other: list[float], answer: tuple[str, bool]
) -> None:
    assert decide({"usual": [1.0] * 5, "other": other}) == answer


def test_every_round_takes_every_candidate_in_changing_order(machine: Machine) -> None:
    measure("cpu", machine.candidates(a=1.0, b=1.0, c=1.0))
    warmed = 2 * 3
    rounds = [tuple(machine.calls[i : i + 3]) for i in range(warmed, len(machine.calls), 3)]
    assert len(rounds) == LEAST_ROUNDS  # a second is over the budget
    assert {tuple(sorted(names)) for names in rounds} == {("a", "b", "c")}
    assert len(set(rounds)) > 1


def test_what_is_over_at_once_is_timed_several_times_in_a_row(machine: Machine) -> None:
    made = measure("cpu", machine.candidates(slow=1e-2, quick=1e-4))
    assert made.milliseconds["quick"] == pytest.approx((0.1, 0.1, 0.1))
    assert machine.calls.count("quick") > machine.calls.count("slow")


def test_a_candidate_that_raises_is_dropped_and_its_reason_kept(machine: Machine) -> None:
    def broken() -> None:
        raise RuntimeError("no such instruction\non this card")

    candidates = machine.candidates(usual=2.0, other=1.0) | {"broken": broken}
    assert fastest("which?", "cpu", candidates) == "other"
    made = measure("cpu", {"broken": broken} | machine.candidates(other=1.0))
    assert (made.name, made.clear) == ("other", True)
    assert made.dropped == {"broken": "RuntimeError: no such instruction"}
    with pytest.raises(RuntimeError, match="no such instruction"):
        measure("cpu", {"usual": broken, "other": broken})


def test_the_warm_up_is_not_part_of_the_answer(machine: Machine) -> None:
    compiling = iter([60.0])

    def compiled() -> None:
        machine.now += next(compiling, 1.0)

    assert measure("cpu", machine.candidates(usual=2.0) | {"compiled": compiled}).name == "compiled"


def test_all_shapes_of_a_run_are_asked_about_and_named(
    smoke_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "fastest", lambda _question, _device, names: list(names)[-1])
    smoke_config.train.precision = Precision.bf16
    chosen = choose_kernels(smoke_config, CPU)
    views, patch = smoke_config.views, smoke_config.model.patch_size
    sides = {torch.bfloat16: {views.global_size, views.local_size}}
    sides[torch.float32] = {smoke_config.data.resolution}
    tokens = {(d, (side // patch) ** 2 + 1) for d, all_ in sides.items() for side in all_}
    assert set(chosen.attention_names) == tokens
    assert chosen.linear_name == chosen.half_linear_name == "onednn"


def other_kernels(config: RunConfig) -> Kernels:
    """Choices that another measurement may make."""
    usual = choose_kernels(config, CPU)
    other = {"fused": "plain", "plain": "fused", "torch": "onednn", "onednn": "torch"}
    attention = {key: other[name] for key, name in usual.attention_names.items()}
    return Kernels(usual.path, other[usual.linear_name], "torch", attention)


def test_a_resumed_run_has_the_kernels_of_its_first_attempt(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    first = other_kernels(smoke_config)
    state = {"kernels": named_kernels(first, CPU)}
    resumed = Trainer(smoke_config, smoke_data, CPU, state)
    assert resumed.kernels == first
    assert resumed.state_dict()["kernels"] == state["kernels"]
    assert Trainer(smoke_config, smoke_data, CPU).kernels != first


@pytest.mark.parametrize(
    "change",
    [{"device": "cuda"}, {"path": "reference"}, {"linear": "gone", "attention": {}}, {"linear": 1}],
    ids=["another device", "another path", "a kernel that is no more", "no name"],
)
def test_kernels_of_an_attempt_elsewhere_are_chosen_anew(
    change: dict[str, Any], smoke_config: RunConfig
) -> None:
    usual, other = choose_kernels(smoke_config, CPU), other_kernels(smoke_config)
    chosen = choose_kernels(smoke_config, CPU, named_kernels(other, CPU) | change)
    assert chosen.linear_name == usual.linear_name
    if set(change) & {"device", "path", "attention"}:
        assert chosen == usual


def test_a_resumed_run_on_a_gpu_has_the_attention_of_its_fused_blocks(
    smoke_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda _: "there")
    monkeypatch.setattr(choice, "fastest", lambda *_: pytest.fail("measured again"))
    smoke_config.train.precision = Precision.bf16
    tokens = [n for dtype, n in choice._attended(smoke_config) if dtype is torch.bfloat16]
    first = Kernels(
        CodePath.fast,
        attention_names=dict.fromkeys(choice._attended(smoke_config), "plain"),
        row_attention=dict(zip(tokens, ("rows", "flash"), strict=True)),
    )
    gpu = torch.device("cuda")
    monkeypatch.setattr(choice, "why_not_fused", lambda *_: "")
    assert choose_kernels(smoke_config, gpu, named_kernels(first, gpu)) == first


def test_a_run_whose_blocks_were_not_fused_goes_on_without(
    smoke_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda _: "there")
    monkeypatch.setattr(choice, "faster_attention", lambda *_: "plain")
    monkeypatch.setattr(choice, "faster_row_attention", lambda *_: "rows")
    smoke_config.train.precision = Precision.bf16
    gpu = torch.device("cuda")
    monkeypatch.setattr(choice, "why_not_fused", lambda *_: "RuntimeError: no compiler")
    first = choose_kernels(smoke_config, gpu)
    assert first.not_fused == "RuntimeError: no compiler"
    assert not first.row_attention
    monkeypatch.setattr(choice, "why_not_fused", lambda *_: "")
    assert not choose_kernels(smoke_config, gpu, named_kernels(first, gpu)).row_attention
    assert choose_kernels(smoke_config, gpu).row_attention


def test_a_choice_reads_as_it_was_written() -> None:
    import msgspec

    made = measure("cpu", {"one": lambda: sum(range(1000)), "two": lambda: None})
    assert msgspec.json.decode(msgspec.json.encode(made), type=Choice) == made
