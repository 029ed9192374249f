"""TensorBoard and Weights & Biases: only when asked, and never the end of a run."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from repro.errors import UserError
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.worker.reporters import check_reporters, reporters, scalars
from tests.conftest import MakeConfig
from tests.harness.processes import train


def step(number: int, loss: float = 1.0) -> dict[str, Any]:
    return {"kind": "step", "step": number, "loss": loss, "sentinel": "healthy"}


def read(folder: RunFolder, name: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder.path / "tensorboard"))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


@pytest.mark.slow
def test_a_trained_run_has_every_step_in_tensorboard(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path, "one", smoke({"reporting.tensorboard": True}))
    code, output = train(folder)
    assert code == 0, output
    steps = [event for event in folder.metrics() if event["kind"] == "step"]
    told = read(folder, "step/loss")
    assert [number for number, _ in told] == [event["step"] for event in steps]
    assert [value for _, value in told] == pytest.approx([event["loss"] for event in steps])
    evaluations = [event for event in folder.metrics() if event["kind"] == "eval"]
    assert len(read(folder, "eval/knn")) == len(evaluations)


def test_nothing_is_written_unless_asked(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path, "one", smoke())
    with reporters(folder, folder.config(), 0) as report:
        report(step(1))
    assert not (folder.path / "tensorboard").exists()


def test_a_resumed_run_tells_no_step_twice(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path, "one", smoke({"reporting.tensorboard": True}))
    with reporters(folder, folder.config(), 0) as report:
        for number in range(1, 6):
            report(step(number, loss=1.0))
    with reporters(folder, folder.config(), 3) as report:  # its checkpoint was of step 3
        for number in range(4, 8):
            report(step(number, loss=2.0))
    assert read(folder, "step/loss") == [(n, 1.0 if n <= 3 else 2.0) for n in range(1, 8)]


def test_numbers_are_told_and_words_are_not() -> None:
    assert scalars(step(3, 0.5)) == {"step/loss": 0.5}


class Recorder(types.ModuleType):
    """In place of the wandb package, which is no dependency: what it is told."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__("wandb")
        self.told: list[tuple[dict[str, float], int]] = []
        self.settings: dict[str, Any] = {}
        self.fails = fails
        self.finished = False

    def init(self, **settings: Any) -> Recorder:
        self.settings = settings
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        if self.fails:
            raise ConnectionError("no network")
        self.told.append((values, step))

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases_gets_the_same_numbers_under_the_runs_id(
    tmp_path: Path, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    folder = create_run(tmp_path, "one", smoke({"reporting.wandb": True}))
    with reporters(folder, folder.config(), 0) as report:
        report(step(1))
    assert wandb.told == [({"step/loss": 1.0}, 1)]
    assert (wandb.settings["id"], wandb.settings["resume"]) == (folder.id, "allow")
    assert wandb.finished


def test_a_reporter_that_fails_says_so_once_and_the_run_goes_on(
    tmp_path: Path,
    smoke: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Recorder(fails=True))
    folder = create_run(tmp_path, "one", smoke({"reporting.wandb": True}))
    with reporters(folder, folder.config(), 0) as report:
        report(step(1))
        report(step(2))
    assert capsys.readouterr().out.count("the run goes on without it") == 1


def test_a_reporter_that_is_not_installed_is_refused_with_the_command(
    smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.harness.worker.reporters.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--report wandb: not installed; pip install wandb$"):
        check_reporters(smoke({"reporting.wandb": True}).reporting)
    check_reporters(smoke().reporting)
