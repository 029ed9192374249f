"""The local pool with real workers: what it trains, skips, waits for, survives."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from repro.config.compose import to_plain
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.hardware import visible_gpus
from repro.harness.local import pool as local
from repro.harness.local.display import Display
from repro.harness.local.pool import Job, Outcome, Pool, dispatch, group_gpus, make_slots
from repro.harness.plan.plan import planned_run
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.store import RunFolder, create_run, find_run, find_runs
from tests.conftest import MakeConfig
from tests.harness.processes import (
    LONG,
    LONG_STEPS,
    WAIT,
    timeless,
    timeless_result,
    wait_for,
    wait_for_step,
)

# A pool in a process of its own; the runs' configs come as JSON on standard input.
POOL = """
import json, sys
from pathlib import Path
from repro.config.compose import from_plain
from repro.harness.local.pool import dispatch
from repro.harness.plan.plan import planned_run
planned = [planned_run(from_plain(c, "test"), {}) for c in json.load(sys.stdin)]
outcome = dispatch(planned, Path(sys.argv[1]), workers=int(sys.argv[2]), threads=1)
print({name: len(runs) for name, runs in vars(outcome).items() if runs})
"""


@pytest.fixture
def runs(smoke: MakeConfig, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs"
    for folder in find_runs(tmp_path / "runs"):
        assert not folder.is_locked(), f"{folder.path}: a worker was left behind"


def planned(*configs: RunConfig) -> list[PlannedRun]:
    return [planned_run(config, {}) for config in configs]


def seeds(smoke: MakeConfig, number: int, long: bool = False) -> list[RunConfig]:
    return [smoke({"seed": seed} | (LONG if long else {})) for seed in range(number)]


def quiet_dispatch(planned: list[PlannedRun], runs: Path, workers: int = 1) -> Outcome:
    console = Console(file=io.StringIO())
    return dispatch(planned, runs, workers=workers, threads=1, console=console)


@contextmanager
def pool_process(
    configs: list[RunConfig], runs: Path, workers: int = 1
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", POOL, str(runs), str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps([to_plain(config) for config in configs]))
    process.stdin.close()
    process.stdin = None
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=WAIT)


def folder_of(run: PlannedRun, runs: Path) -> RunFolder:
    """The run's folder, as soon as the pool has made it."""
    wait_for(lambda: find_run(runs, run.id), f"the folder of {run.id}")
    return next(folder for folder in find_runs(runs) if folder.id == run.id)


def test_runs_are_trained_in_order_once_and_leave_their_logs(smoke: MakeConfig, runs: Path) -> None:
    todo = planned(*seeds(smoke, 3))
    outcome = quiet_dispatch(todo, runs, workers=2)
    assert sorted(folder.id for folder in outcome.done) == sorted(run.id for run in todo)
    first, second, third = (folder_of(run, runs).read_run().started for run in todo)
    assert third > max(first, second)  # two at a time, in the order given
    for folder in outcome.done:
        assert folder.state(time.time()) == "done"
        assert "done: k-NN" in (folder.path / "log.txt").read_text()

    again = quiet_dispatch(todo, runs)
    assert [folder.id for folder in again.already_done] == [run.id for run in todo]
    assert again.done == []
    assert all(folder.read_run().attempts == 1 for folder in again.already_done)


def test_a_run_whose_folder_is_removed_fails_alone(smoke: MakeConfig, runs: Path) -> None:
    todo = planned(*seeds(smoke, 1, long=True), smoke({"seed": 7}), smoke({"seed": 8}))

    def remove() -> None:
        folder, waiting = folder_of(todo[0], runs), folder_of(todo[2], runs)
        wait_for_step(folder, 5)
        for one in (folder, waiting):
            one.path.rename(runs.parent / one.id)  # at once, as no rmtree beside a writer

    remover = threading.Thread(target=remove)
    remover.start()
    outcome = quiet_dispatch(todo, runs)
    remover.join()
    assert {folder.id for folder in outcome.failed} == {todo[0].id, todo[2].id}
    assert [folder.id for folder in outcome.done] == [todo[1].id]


def test_a_killed_worker_is_reported_and_a_second_dispatch_resumes_bit_for_bit(
    smoke: MakeConfig, runs: Path, tmp_path: Path
) -> None:
    todo = planned(*seeds(smoke, 1, long=True), smoke({"seed": 7}))

    def kill_the_first() -> None:
        folder = folder_of(todo[0], runs)
        wait_for_step(folder, 30)
        os.kill(folder.read_run().pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    outcome = quiet_dispatch(todo, runs)
    killer.join()
    assert [folder.id for folder in outcome.failed] == [todo[0].id]
    assert [folder.id for folder in outcome.done] == [todo[1].id]  # the rest went on
    killed = outcome.failed[0]
    assert list(killed.path.glob("lock.*")) == []  # another machine may go on at once
    failure = killed.failure()
    assert failure is not None
    assert failure.kind == "killed"
    assert "SIGKILL" in failure.line
    assert failure.step >= 30
    assert f"step 0 of {LONG_STEPS}" in failure.traceback  # the log's tail
    assert killed.state(time.time()) == "failed"

    again = quiet_dispatch(todo, runs)
    assert [folder.id for folder in again.done] == [todo[0].id]
    assert [folder.id for folder in again.already_done] == [todo[1].id]
    assert killed.failure() is None
    assert (killed.path / "log.txt").read_text().count(f"step 0 of {LONG_STEPS}") == 1
    whole = quiet_dispatch(todo[:1], tmp_path / "whole").done[0]
    assert timeless(killed.metrics()) == timeless(whole.metrics())
    assert timeless_result(killed) == timeless_result(whole)


def test_two_dispatches_at_one_moment_train_each_run_once(smoke: MakeConfig, runs: Path) -> None:
    todo = planned(*seeds(smoke, 3))
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: quiet_dispatch(todo, runs), range(2)))
    for outcome in outcomes:
        assert {f.id for f in [*outcome.done, *outcome.already_done]} == {r.id for r in todo}
    assert len(find_runs(runs)) == 3
    for folder in find_runs(runs):
        assert folder.read_run().attempts == 1
        assert (folder.path / "log.txt").read_text().count("done: k-NN") == 1


def test_a_run_held_elsewhere_is_waited_for_and_taken_over_when_let_go(
    smoke: MakeConfig, runs: Path
) -> None:
    (run,) = planned(smoke())
    folder = create_run(runs, run.slug, run.config)
    console = Console(file=io.StringIO(), width=200)
    with ThreadPoolExecutor(1) as thread:
        with folder.lock():
            future = thread.submit(dispatch, [run], runs, 1, 1, console)
            wait_for(lambda: "another process" in console.file.getvalue(), "the pool's message")  # type: ignore[attr-defined]
            time.sleep(5 * local.POLL_SECONDS)
            assert folder.read_run().attempts == 0
        outcome = future.result(timeout=WAIT)
    assert [done.id for done in outcome.done] == [run.id]
    assert folder.read_run().attempts == 1


def test_ctrl_c_leaves_every_run_resumable(smoke: MakeConfig, runs: Path) -> None:
    configs = [*seeds(smoke, 1, long=True), smoke({"seed": 1})]
    with pool_process(configs, runs) as pool:
        first, second = (folder_of(run, runs) for run in planned(*configs))
        wait_for_step(first, 10)
        pool.send_signal(signal.SIGINT)
        output, _ = pool.communicate(timeout=WAIT)
    assert pool.returncode == 0, output
    assert "{'interrupted': 2}" in output
    assert first.state(time.time()) == "interrupted"
    assert (first.path / "checkpoints" / "last.pt").exists()
    assert second.state(time.time()) == "queued"
    outcome = quiet_dispatch(planned(*configs), runs)
    assert len(outcome.done) == 2
    steps = [event["step"] for event in first.metrics() if event["kind"] == "step"]
    assert steps == list(range(1, LONG_STEPS + 1))


def test_a_second_ctrl_c_kills_the_workers(smoke: MakeConfig, runs: Path) -> None:
    configs = seeds(smoke, 1, long=True)
    with pool_process(configs, runs) as pool:
        folder = folder_of(planned(*configs)[0], runs)
        wait_for_step(folder, 1)
        # A stopped worker cannot answer SIGTERM; only a kill ends it.
        os.kill(folder.read_run().pid, signal.SIGSTOP)
        pool.send_signal(signal.SIGINT)
        time.sleep(5 * local.POLL_SECONDS)
        assert pool.poll() is None
        pool.send_signal(signal.SIGINT)
        output, _ = pool.communicate(timeout=WAIT)
    assert "{'interrupted': 1}" in output
    assert folder.state(time.time()) == "interrupted"
    assert folder.failure() is None


def test_the_workers_of_a_killed_pool_stop_with_a_checkpoint(smoke: MakeConfig, runs: Path) -> None:
    configs = seeds(smoke, 1, long=True)
    with pool_process(configs, runs) as pool:
        folder = folder_of(planned(*configs)[0], runs)
        wait_for_step(folder, 5)
        pool.kill()
    wait_for(lambda: not folder.is_locked(), "the worker to stop")
    assert folder.state(time.time()) == "interrupted"
    assert "pool that started this run is gone" in (folder.path / "log.txt").read_text()
    assert (folder.path / "checkpoints" / "last.pt").exists()


def test_cancelled_runs_stop_or_never_start_until_asked_for_again(
    smoke: MakeConfig, runs: Path
) -> None:
    todo = planned(*seeds(smoke, 1, long=True), smoke({"seed": 1}))

    def cancel_both() -> None:
        running, waiting = (folder_of(run, runs) for run in todo)
        wait_for_step(running, 3)
        waiting.request_cancel()
        running.request_cancel()

    canceller = threading.Thread(target=cancel_both)
    canceller.start()
    outcome = quiet_dispatch(todo, runs)
    canceller.join()
    running, waiting = outcome.cancelled
    assert running.read_run().attempts == 1
    assert waiting.read_run().attempts == 0
    assert {folder.state(time.time()) for folder in outcome.cancelled} == {"cancelled"}
    assert len(quiet_dispatch(todo, runs).done) == 2


FAILS_AND_IS_TOLD_TO_STOP = """
import os, signal, sys
from pathlib import Path
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.update_run(pid=os.getpid())
folder.fail(Failure(FailureKind.data, line="no such folder", traceback="", host="n1", step=0))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_worker_that_failed_before_it_was_told_to_stop_has_failed(
    smoke: MakeConfig, runs: Path
) -> None:
    folder, outcome = create_run(runs, "one", smoke()), Outcome()
    process = subprocess.Popen([sys.executable, "-c", FAILS_AND_IS_TOLD_TO_STOP, str(folder.path)])
    assert process.wait(WAIT) == -signal.SIGTERM
    (slot,) = make_slots(1, [], 1, 1)
    with Display(1, 0, 1, Console(file=io.StringIO())) as display:
        job = Job(folder, slot, process, log_start=0)
        Pool(deque(), [], display, outcome, jobs=[job], asked=1, passed_on=1).work()
    assert outcome == Outcome(failed=[folder])
    assert folder.state(time.time()) == "failed"
    failure = folder.failure()
    assert failure is not None
    assert failure.kind == "data"


def test_a_failure_does_not_hold_up_the_others(smoke: MakeConfig, runs: Path) -> None:
    bad, good = smoke({"train.batch_size": 1000}), smoke({"seed": 1})
    console = Console(file=io.StringIO(), width=300)
    outcome = dispatch(planned(bad, good), runs, workers=1, threads=1, console=console)
    assert len(outcome.failed) == len(outcome.done) == 1
    (line,) = [
        line
        for line in console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        if line.startswith("failed")
    ]
    assert "a setting is wrong (step 0): train.batch_size=1000" in line


@given(
    count=st.integers(1, 50),
    gpus=st.lists(st.from_regex("GPU-[0-9a-f]{8}", fullmatch=True), max_size=8, unique=True),
    workers=st.none() | st.integers(1, 16),
)
def test_slots_share_the_cores_and_the_gpus_evenly(
    count: int, gpus: list[str], workers: int | None
) -> None:
    slots = make_slots(count, gpus, workers)
    cores = local.available_cores()
    assert len(slots) == (workers or len(gpus) or min(count, cores))
    total = sum(slot.threads for slot in slots)
    assert all(slot.threads >= 1 for slot in slots)
    assert total <= max(cores, len(slots))
    uses = [sum(slot.gpu == gpu for slot in slots) for gpu in gpus]
    assert not gpus or max(uses) - min(uses) <= 1


def test_a_slot_tells_its_worker_which_cores_and_gpu_to_use() -> None:
    environment = local.Slot(threads=3, gpu="GPU-1").environment()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "REPRO_THREADS"):
        assert environment[name] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert environment["PATH"] == os.environ["PATH"]


def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert local.Slot(threads=2, gpu=None).environment()["GOMP_SPINCOUNT"] == "3000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    assert local.Slot(threads=2, gpu=None).environment()["GOMP_SPINCOUNT"] == "0"


@pytest.mark.parametrize(
    ("chosen", "names"), [("", []), ("-1", []), ("0,2", ["0", "2"]), ("GPU-a", ["GPU-a"])]
)
def test_a_choice_of_gpus_made_outside_is_kept(
    chosen: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == names


def test_gpus_are_found_by_the_names_that_the_driver_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Machines without a GPU have no nvidia-smi: this prints what the real one does.
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)'\n"
        "echo '  MIG 1g.5gb  Device 0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)'\n"
        "echo 'GPU 1: NVIDIA H200 (UUID: GPU-d5daf6d5-1f1f-4b9f-9a3c-1d0c1f0f6a11)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == [
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",  # of a divided card its part
        "GPU-d5daf6d5-1f1f-4b9f-9a3c-1d0c1f0f6a11",
    ]


def test_runs_of_several_ranks_get_as_many_gpus_and_fewer_are_refused() -> None:
    gpus = ["GPU-a", "GPU-b", "GPU-c", "GPU-d", "GPU-e"]
    assert group_gpus(gpus, 1) == gpus
    assert group_gpus(gpus, 2) == ["GPU-a,GPU-b", "GPU-c,GPU-d"]
    assert group_gpus([], 8) == []  # without GPUs the cores are shared
    with pytest.raises(UserError, match=r"resources\.ranks=8: this machine has 5 GPU"):
        group_gpus(gpus, 8)
