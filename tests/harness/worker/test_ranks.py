"""A run of two ranks as its callers see it: one worker, one folder, one outcome."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from repro import distributed
from repro.errors import UserError
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.worker.run import DONE, STOPPED
from tests.conftest import MakeConfig
from tests.harness.processes import (
    WAIT,
    start_command,
    timeless_result,
    train,
    train_command,
    wait_for,
    wait_for_step,
)

LONG = {"train.epochs": 8, "eval.every_epochs": 4}
TWO = {"resources.ranks": 2}


def ranks_of(folder: RunFolder) -> list[int]:
    """Processes that work on this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "repro.harness.worker" in words and str(folder.path) in words:
            found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    folder = create_run(tmp_path_factory.mktemp("runs"), "one", smoke(LONG))
    code, output = train(folder)
    assert code == DONE, output
    return folder


def assert_alike(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours["counts"] == theirs["counts"]
    for name in ("loss", "entropy", "kl", "centre_norm", "mean_entropy"):
        assert ours["metrics"][name] == pytest.approx(theirs["metrics"][name], rel=1e-3), name


def test_two_ranks_write_one_folder_and_one_result(
    tmp_path: Path, smoke: MakeConfig, alone: RunFolder
) -> None:
    folder = create_run(tmp_path, "two", smoke(LONG | TWO))
    assert folder.id == alone.id  # ranks are no part of a run's identity
    code, output = train_command(folder)
    assert code == DONE, output
    assert ranks_of(folder) == []
    steps = [event["step"] for event in folder.metrics() if event["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    assert_alike(timeless_result(folder), timeless_result(alone))


def test_all_ranks_stop_together_and_resume(
    tmp_path: Path, smoke: MakeConfig, alone: RunFolder
) -> None:
    folder = create_run(tmp_path, "two", smoke(LONG | TWO))
    process = start_command(folder)
    wait_for_step(folder, 5)
    assert len(ranks_of(folder)) == 2
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == STOPPED, output
    assert ranks_of(folder) == []
    assert folder.read_run().state == "interrupted"
    code, output = train_command(folder)
    assert code == DONE, output
    assert_alike(timeless_result(folder), timeless_result(alone))


def test_no_rank_outlives_a_killed_leader(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path, "two", smoke(LONG | TWO | {"train.epochs": 200}))
    process = start_command(folder)
    wait_for_step(folder, 3)
    process.kill()
    process.communicate(timeout=WAIT)
    wait_for(lambda: not ranks_of(folder), "the other rank to end")


def test_a_job_with_another_number_of_processes_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "4")
    with (
        pytest.raises(UserError, match=r"resources\.ranks=2, but this job has 4 processes"),
        distributed.joined(2, "cpu"),
    ):
        pass
