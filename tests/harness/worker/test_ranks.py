"""A run of two ranks as its callers see it: one worker, one folder, one outcome."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from repro import distributed
from repro.errors import UserError
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.worker.ranks import followers
from repro.harness.worker.run import DONE, FAILED, STOPPED
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


def test_a_rank_that_cannot_even_begin_is_named_while_the_leader_waits_for_it(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    """Rank 0 would wait for half an hour."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif os.environ.get('RANK') == '1':\n    sys.modules['torch'] = None\n"
    )
    folder = create_run(tmp_path / "runs", "two", smoke(LONG | TWO))
    paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    process = start_command(folder, env=os.environ | {"PYTHONPATH": paths})
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == FAILED, output
    failure = folder.failure()
    assert failure is not None
    assert failure.line.startswith("rank 1: ModuleNotFoundError: import of torch halted")
    assert folder.read_run().state == "failed"
    assert ranks_of(folder) == []


def test_a_rank_that_is_killed_is_named(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path, "two", smoke(LONG | TWO | {"train.epochs": 200}))
    process = start_command(folder)
    wait_for_step(folder, 3)
    (other,) = {pid for pid in ranks_of(folder) if pid != process.pid}
    os.kill(other, signal.SIGKILL)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == FAILED, output
    failure = folder.failure()
    assert failure is not None
    assert failure.line.startswith("rank 1: worker killed by SIGKILL")


def test_the_port_where_ranks_meet_is_taken_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"SLURM_JOB_ID": "7", "REPRO_MEETING": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "rendezvous").mkdir()
    with followers(tmp_path, 2, print) as listening:
        meeting = json.loads((tmp_path / "rendezvous" / "7.0.json").read_text())
        port = int(meeting["MASTER_PORT"])
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("", port))
        socket.create_connection(("127.0.0.1", port)).close()
        assert listening is not None
        listening.close()


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
    with pytest.raises(UserError, match=r"resources\.ranks=2, but this job has 4 processes"):
        distributed.take_place(2, "cpu")
