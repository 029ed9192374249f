"""The worker as its callers see it: a process, its exit code and what it leaves in the folder."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from repro.data.datasets import open_dataset
from repro.errors import UserError
from repro.harness.runs.failures import failure_of
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.worker.run import BUSY, DONE, FAILED, STOPPED, USER_MISTAKE, at_rest, main
from repro.train import Diverged, Trainer
from tests.conftest import MakeConfig
from tests.harness.processes import (
    LONG,
    LONG_STEPS,
    WAIT,
    start,
    timeless,
    timeless_result,
    train,
    train_command,
    trained,
    wait_for_step,
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    return trained(create_run(tmp_path_factory.mktemp("runs"), "whole", smoke(LONG)))


def test_a_run_leaves_every_file_of_a_run_folder(uninterrupted: RunFolder) -> None:
    names = {path.name for path in uninterrupted.path.iterdir()}
    assert names >= {
        "config.yaml", "run.json", "env.json", "metrics.jsonl", "events.jsonl", "heartbeat",
        "checkpoints", "lock", "result.json",
    }  # fmt: skip
    assert "failure.json" not in names
    assert uninterrupted.state(time.time()) == "done"
    steps = [event["step"] for event in uninterrupted.metrics() if event["kind"] == "step"]
    assert steps == list(range(1, LONG_STEPS + 1))
    evaluated = [event["step"] for event in uninterrupted.metrics() if event["kind"] == "eval"]
    assert evaluated == [0, 24, 48, LONG_STEPS]
    run = uninterrupted.read_run()
    assert (run.attempts, run.total_steps) == (1, LONG_STEPS)
    assert (uninterrupted.result() or {})["wall_seconds"] > 0
    env = json.loads((uninterrupted.path / "env.json").read_text())
    assert env["torch"] == torch.__version__.split("+")[0]
    assert env["hardware"]["threads"] == 1
    data = open_dataset(uninterrupted.config().data, "")
    assert env["data"] == {"train": data.train.digest(), "test": data.test.digest()}


def test_a_finished_run_is_not_trained_again(uninterrupted: RunFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.path.iterdir()}
    code, output = train(uninterrupted)
    assert code == DONE
    assert "already done" in output
    after = {path: path.stat().st_mtime_ns for path in uninterrupted.path.iterdir()}
    assert after == before


def test_a_run_stopped_again_and_again_resumes_bit_for_bit(
    tmp_path: Path, smoke: MakeConfig, uninterrupted: RunFolder
) -> None:
    folder = create_run(tmp_path, "stopped", smoke(LONG))
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    stopped_at = 0
    for number in signals:
        process = start(folder)
        wait_for_step(folder, stopped_at + 10)
        process.send_signal(number)
        output, _ = process.communicate(timeout=WAIT)
        assert process.returncode == STOPPED, output
        assert number.name in output
        assert f"step {stopped_at} of {LONG_STEPS}" in output
        assert folder.state(time.time()) == "interrupted"
        stopped_at = folder.step
    assert stopped_at < LONG_STEPS

    code, output = train(folder)
    assert code == DONE, output
    assert timeless(folder.metrics()) == timeless(uninterrupted.metrics())
    assert timeless_result(folder) == timeless_result(uninterrupted)
    assert folder.read_run().attempts == len(signals) + 1


def test_an_unreadable_last_checkpoint_costs_only_the_way_from_the_previous_one(
    tmp_path: Path, smoke: MakeConfig, uninterrupted: RunFolder
) -> None:
    folder = create_run(tmp_path, "torn", smoke(LONG))
    process = start(folder)
    wait_for_step(folder, 30)
    process.kill()
    process.wait()
    last, previous = (folder.path / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    whole = last if last.exists() else previous  # killed while one took the other's place
    last.write_bytes(whole.read_bytes()[:1000])
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 9')

    code, output = train(folder)
    assert code == DONE, output
    assert f"step 0 of {LONG_STEPS}" not in output
    assert timeless(folder.metrics()) == timeless(uninterrupted.metrics())
    assert timeless_result(folder) == timeless_result(uninterrupted)


def test_a_run_can_be_stopped_after_any_step_and_yields_the_same_events(
    smoke: MakeConfig,
) -> None:
    config = smoke({"teacher.kind": "previous_epoch"})
    dataset = open_dataset(config.data, "")

    def trainer() -> Trainer:
        return Trainer(config, dataset, torch.device("cpu"))

    whole = timeless(list(trainer().run()))
    for stop_at in range(1, 8):
        first, events = trainer(), []
        for event in first.run():
            events.append(event)
            if event["step"] >= stop_at and at_rest(event):
                break
        second = trainer()
        second.load_state_dict(first.state_dict())
        assert timeless([*events, *second.run()]) == whole, stop_at


def test_a_run_killed_in_an_evaluation_has_saved_before_it_and_makes_it_again(
    tmp_path: Path, smoke: MakeConfig, uninterrupted: RunFolder
) -> None:
    """Also where the evaluation's line had been written."""
    folder = create_run(tmp_path, "killed", smoke(LONG))
    code, output = train(folder)
    assert code == DONE, output
    checkpoints = folder.path / "checkpoints"
    before = torch.load(checkpoints / "previous.pt", weights_only=True)
    assert (before["step"], before["epoch_ended"]) == (LONG_STEPS, False)
    (checkpoints / "last.pt").unlink()
    (folder.path / "result.json").unlink()
    code, output = train(folder)
    assert code == DONE, output
    assert f"step {LONG_STEPS} of {LONG_STEPS}" in output
    assert timeless(folder.metrics()) == timeless(uninterrupted.metrics())
    assert timeless_result(folder) == timeless_result(uninterrupted)


def test_a_cancelled_run_stops_with_a_checkpoint(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path, "cancelled", smoke(LONG))
    process = start(folder)
    wait_for_step(folder, 5)
    folder.request_cancel()
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == STOPPED, output
    assert folder.state(time.time()) == "cancelled"
    assert (folder.path / "checkpoints" / "last.pt").exists()


def test_a_busy_folder_answers_at_once_and_is_left_alone(tmp_path: Path, smoke: MakeConfig) -> None:
    folder = create_run(tmp_path, "busy", smoke())
    before = {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    with folder.lock():
        before |= {folder.path / "lock": (folder.path / "lock").stat().st_mtime_ns}
        answer = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "repro.harness.worker", str(folder.path)],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
    assert answer.returncode == BUSY
    assert len(answer.stdout.splitlines()) == 1
    assert "another process" in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "repro.harness.runs.store" in imported
    assert "torch" not in imported
    assert {path: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before


def test_missing_data_is_the_users_mistake_in_one_line(tmp_path: Path, smoke: MakeConfig) -> None:
    missing = tmp_path / "no-such-folder"
    config = smoke({"data": "folder", "data.resolution": 32, "paths.data": str(missing)})
    folder = create_run(tmp_path, "missing", config)
    code, output = train(folder)
    assert code == USER_MISTAKE
    failure = folder.failure()
    assert failure is not None
    assert failure.kind == "data"
    assert str(missing) in failure.line
    assert "\n" not in failure.line
    assert failure.line in output
    assert "Traceback" not in output
    assert folder.state(time.time()) == "failed"


def test_a_diverging_run_fails_with_its_step_and_keeps_its_metrics(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    diverging = {"optim.lr": 1e9, "optim.clip": "none", "optim.warmup_epochs": 0}
    folder = create_run(tmp_path, "nan", smoke(diverging))
    code, output = train(folder)
    assert code == FAILED, output
    failure = folder.failure()
    assert failure is not None
    assert failure.kind == "nan"
    assert f"step {failure.step}" in failure.line
    assert folder.step == failure.step - 1


def test_a_full_disk_keeps_the_checkpoint_and_the_run_resumes(
    tmp_path: Path, smoke: MakeConfig, uninterrupted: RunFolder
) -> None:
    folder = create_run(tmp_path, "full", smoke(LONG))
    process = start(folder)
    wait_for_step(folder, 10)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=WAIT)
    last = folder.path / "checkpoints" / "last.pt"
    before = last.read_bytes()

    # The kernel refuses to let a file grow beyond this, as it does on a full disk.
    limit = len(before) // 2
    assert limit > 200_000  # metrics.jsonl must fit

    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code, output = train_command(folder, preexec_fn=full_disk)
    assert code == FAILED, output
    failure = folder.failure()
    assert failure is not None
    assert failure.kind == "disk_full"
    assert "free some space" in failure.line
    assert last.read_bytes() == before
    assert not (folder.path / "checkpoints" / "unfinished.pt").exists()

    code, output = train(folder)
    assert code == DONE, output
    assert folder.failure() is None
    assert timeless(folder.metrics()) == timeless(uninterrupted.metrics())
    assert timeless_result(folder) == timeless_result(uninterrupted)


def test_metrics_that_do_not_fit_on_the_disk_fail_the_run_and_it_resumes(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    config = smoke({"train.epochs": 4, "reporting.checkpoint_seconds": 3600})
    folder = create_run(tmp_path, "metrics", config)

    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    code, _ = train_command(folder, preexec_fn=full_disk)
    assert code == FAILED
    failure = folder.failure()
    assert failure is not None
    assert failure.kind == "disk_full"
    code, output = train(folder)
    assert code == DONE, output
    steps = [event["step"] for event in folder.metrics() if event["kind"] == "step"]
    assert steps == list(range(1, 17))


def test_a_collapse_is_named_in_the_log_with_its_meaning(tmp_path: Path, smoke: MakeConfig) -> None:
    collapsing = {"train.epochs": 40, "eval.every_epochs": 40, "target.sharpening": False}
    folder = create_run(tmp_path, "collapse", smoke(collapsing))
    code, output = train(folder)
    assert code == DONE, output
    sentinel = (folder.result() or {})["sentinel"]
    assert sentinel["state"] == "uniform"
    last = [line for line in output.splitlines() if line.startswith("sentinel: ")][-1]
    assert f"uniform since step {sentinel['since_step']}: {sentinel['meaning']}" in last


def test_the_log_tells_the_state_of_the_training_at_every_evaluation(
    uninterrupted: RunFolder,
) -> None:
    log = (uninterrupted.path / "log.txt").read_text().splitlines()
    for step in (24, 48, LONG_STEPS):
        state = next(line for line in log if line.startswith(f"step {step}/{LONG_STEPS} "))
        for word in ("images/s", "loss", "entropy", "KL", "healthy"):
            assert word in state
        assert log[log.index(state) + 1].startswith(f"step {step}: k-NN teacher")


@pytest.mark.parametrize("words", [[], ["a", "b"], ["no/such/folder"]])
def test_the_worker_takes_one_run_folder(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == USER_MISTAKE
    assert len(capsys.readouterr().err.splitlines()) == 1


def real_allocation_failure() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Diverged(7, float("nan")), "nan"),
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (real_allocation_failure(), "out_of_memory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk_full"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "disk_full"),
        (UserError("resources.device=cuda, but torch sees no GPU"), "user"),
        (ValueError("a bug\nwith details"), "code"),
    ],
)
def test_a_failure_is_named_by_its_cause_in_one_line(error: Exception, kind: str) -> None:
    failure = failure_of(error, step=3)
    assert failure.kind == kind
    assert failure.line.strip()
    assert "\n" not in failure.line
    assert failure.step == (7 if kind == "nan" else 3)


class UnreadableImages(torch.utils.data.Dataset[int]):
    message = "photos/cat/1.jpg: cannot be read; set data.skip_unreadable=true"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise UserError(self.message)


def test_a_mistake_in_a_data_worker_process_keeps_its_one_line() -> None:
    loader = torch.utils.data.DataLoader(UnreadableImages(), num_workers=1)
    with pytest.raises(UserError) as caught:
        list(loader)
    assert failure_of(caught.value, step=0).line == UnreadableImages.message
