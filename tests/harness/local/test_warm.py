"""Workers that a warm process forks are as started ones: processes, logs, ends, numbers."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from repro.harness.evaluation.requests import ask
from repro.harness.local import warm as warm_module
from repro.harness.local.pool import Slot, dispatch
from repro.harness.local.warm import Adopted, WarmProcess, code_state
from repro.harness.runs import variables
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.worker.run import BUSY, DONE, STOPPED, USER_MISTAKE
from tests.conftest import MakeConfig
from tests.harness.local.test_pool import folder_of, planned, pool_process, runs, seeds
from tests.harness.processes import (
    LONG,
    LONG_STEPS,
    timeless,
    timeless_result,
    train_command,
    wait_for,
    wait_for_step,
)

__all__ = ["runs"]
ENVIRONMENT = Slot(threads=1, gpu=None).environment()


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    process = WarmProcess(ENVIRONMENT)
    wait_for(process.is_ready, "the warm process")
    yield process
    process.close()


def start(warm: WarmProcess, folder: RunFolder, **more: str) -> Adopted:
    environment = ENVIRONMENT | variables.POOL_PID.holding(os.getpid()) | more
    process, _ = warm.start(folder.path, environment, folder.path / "log.txt")
    return process


def log_of(folder: RunFolder) -> str:
    return (folder.path / "log.txt").read_text()


def is_forked(pid: int) -> bool:
    return b"repro.harness.local.warm" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_two_runs_in_a_row_give_the_numbers_of_a_plain_worker(
    warm: WarmProcess, tmp_path: Path, smoke: MakeConfig
) -> None:
    first, second = (create_run(tmp_path, f"warm{n}", smoke({"seed": n})) for n in (1, 2))
    assert start(warm, first).wait() == DONE, log_of(first)
    assert start(warm, second).wait() == DONE, log_of(second)
    plain = create_run(tmp_path / "plain", "plain", smoke({"seed": 2}))
    code, output = train_command(plain, env=ENVIRONMENT)
    assert code == DONE, output
    assert timeless(second.metrics()) == timeless(plain.metrics())
    assert timeless(first.metrics()) != timeless(plain.metrics())
    assert timeless_result(second) == timeless_result(plain)
    env, env_of_plain = (
        json.loads((folder.path / "env.json").read_text()) for folder in (second, plain)
    )
    assert env == env_of_plain


def test_a_forked_worker_has_session_log_and_parent_of_its_own_and_resumes_after_a_warning(
    warm: WarmProcess, tmp_path: Path, smoke: MakeConfig
) -> None:
    folder = create_run(tmp_path, "long", smoke(LONG))
    (folder.path / "log.txt").write_text("an earlier attempt\n")
    process = start(warm, folder, **variables.THREADS.holding(2))
    wait_for_step(folder, 5)
    pid = process.pid
    assert folder.read_run().pid == pid
    assert is_forked(pid)
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{pid}/status").read_text()
    opened = {file.name: str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    assert opened["0"] == "/dev/null"
    assert opened["1"] == opened["2"] == str(folder.path / "log.txt")
    assert not any(target.startswith("pipe:") for target in opened.values())
    process.send_signal(signal.SIGUSR2)
    assert process.wait() == STOPPED
    assert process.poll() == STOPPED
    assert json.loads((folder.path / "env.json").read_text())["hardware"]["threads"] == 2
    lines = log_of(folder).splitlines()
    assert lines[0] == "an earlier attempt"
    assert lines[1].startswith("=== attempt 1, ")
    assert "(SIGUSR2); the checkpoint is saved" in lines[-1]

    assert start(warm, folder).wait() == DONE
    steps = [event["step"] for event in folder.metrics() if event["kind"] == "step"]
    assert steps == list(range(1, LONG_STEPS + 1))


def test_exit_codes_are_those_of_a_worker(
    warm: WarmProcess, tmp_path: Path, smoke: MakeConfig
) -> None:
    folder = create_run(tmp_path, "busy", smoke())
    with folder.lock():
        assert start(warm, folder).wait() == BUSY
    assert "another process" in log_of(folder)
    (folder.path / "result.json").write_text("{")
    assert start(warm, folder).wait() == USER_MISTAKE  # a damaged folder, which is left as it is
    assert "result.json: not valid JSON" in log_of(folder).splitlines()[-1]
    lock = folder.path / "lock"
    lock.unlink()
    lock.mkdir()
    assert start(warm, folder).wait() == 1  # an exception that no folder could take
    lock.rmdir()
    (folder.path / "config.yaml").unlink()
    assert start(warm, folder).wait() == USER_MISTAKE
    assert "not a run folder" in log_of(folder)


def test_a_crash_in_native_code_leaves_its_stack_in_the_log(
    warm: WarmProcess, tmp_path: Path, smoke: MakeConfig
) -> None:
    folder = create_run(tmp_path, "crash", smoke(LONG))
    process = start(warm, folder)
    wait_for_step(folder, 1)
    process.send_signal(signal.SIGSEGV)
    assert process.wait() == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in log_of(folder)
    assert not folder.is_locked()


def test_the_warm_process_has_done_nothing_that_a_fork_would_break(warm: WarmProcess) -> None:
    assert len(list(Path(f"/proc/{warm.process.pid}/task").iterdir())) == 1
    maps = Path(f"/proc/{warm.process.pid}/maps").read_text()
    assert "libtorch_cpu" in maps
    assert "/dev/nvidia" not in maps


def test_a_killed_worker_has_a_cause_and_the_runs_of_a_killed_warm_process_go_on(
    smoke: MakeConfig, runs: Path
) -> None:
    todo = planned(*seeds(smoke, 2, long=True), smoke({"seed": 7}))
    console = Console(file=io.StringIO(), width=300)
    forked: list[bool] = []

    def kill() -> None:
        first, second = (folder_of(run, runs) for run in todo[:2])
        for folder in (first, second):
            wait_for_step(folder, 3)
            forked.append(is_forked(folder.read_run().pid or 0))
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        workers = {folder.read_run().pid for folder in (first, second)}
        for child in map(int, children.read_text().split()):
            if child not in workers and is_forked(child):
                os.kill(child, signal.SIGKILL)
        os.kill(first.read_run().pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = dispatch(todo, runs, workers=2, threads=1, console=console)
    killer.join()
    assert forked == [True, True]
    assert [folder.id for folder in outcome.failed] == [todo[0].id]
    assert {folder.id for folder in outcome.done} == {run.id for run in todo[1:]}
    failure = outcome.failed[0].failure()
    assert failure is not None
    assert failure.kind == "killed"
    assert "SIGKILL" in failure.line
    assert "no warm process" in console.file.getvalue()  # type: ignore[attr-defined]


def test_forked_workers_of_a_killed_pool_stop_with_a_checkpoint(
    smoke: MakeConfig, runs: Path
) -> None:
    configs = seeds(smoke, 2, long=True)
    with pool_process(configs, runs) as pool:
        folder = folder_of(planned(*configs)[0], runs)
        wait_for_step(folder, 5)
        assert is_forked(folder.read_run().pid or 0)
        pool.kill()
    wait_for(lambda: not folder.is_locked(), "the worker to stop")
    assert folder.read_run().state == "interrupted"
    assert "pool that started this run is gone" in log_of(folder)
    assert (folder.path / "checkpoints" / "last.pt").exists()


def test_a_warm_process_that_does_not_start_is_done_without(
    smoke: MakeConfig, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_module, "READY", "another greeting")
    console = Console(file=io.StringIO(), width=300)
    outcome = dispatch(planned(*seeds(smoke, 2)), runs, workers=2, threads=1, console=console)
    assert len(outcome.done) == 2
    assert "no warm process" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_changed_file_of_the_code_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "package" / "module.py"
    file.parent.mkdir()
    file.write_text("a = 1\n")
    before = code_state(tmp_path)
    assert code_state(tmp_path) == before
    (tmp_path / "notes.txt").touch()
    assert code_state(tmp_path) == before
    file.write_text("a = 22\n")
    changed = code_state(tmp_path)
    assert changed != before
    (tmp_path / "another.py").touch()
    assert code_state(tmp_path) != changed


def test_runs_start_plainly_once_the_code_has_changed(
    smoke: MakeConfig, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(range(100))
    monkeypatch.setattr(warm_module, "code_state", lambda: next(states))
    console = Console(file=io.StringIO(), width=300)
    todo = planned(*seeds(smoke, 2))
    outcome = dispatch(todo, runs, workers=2, threads=1, console=console)
    assert len(outcome.done) == 2
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert told.count("no warm process (the code has changed since it began)") == 1


LOADED = """
import os, sys
from repro.harness.local import warm
from repro.harness.worker import run
warm.sys.stdin = open(os.devnull)
warm.main()
before = set(sys.modules)
assert run.main(sys.argv[1:]) == run.DONE
print("later:", sorted(n for n in set(sys.modules) - before if n.startswith("repro.")))
"""


def test_a_warm_process_has_imported_all_of_our_code_that_a_run_and_its_probe_use(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    folder = create_run(tmp_path, "probed", smoke())
    ask(folder, ["linear"], smoke())
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(folder.path)],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "later: []"


TOUCHED = """
import sys, torch
from repro.harness.local.warm import a_fork_may_use_cuda
before = a_fork_may_use_cuda()
torch.cuda.is_available()
print(before, a_fork_may_use_cuda())
"""


def test_a_process_that_has_called_cuda_knows_that_its_forks_may_not() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTORCH_NVML_BASED_CUDA_CHECK"}
    done = subprocess.run(
        [sys.executable, "-c", TOUCHED], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]
