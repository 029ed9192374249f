"""A warm process that has imported what a worker needs, and forks one for each run of a pool.

Importing torch and timm takes seconds, which is most of a tiny run. The pool starts this module
once (`python -m repro.harness.local.warm`) and writes it a line a run. A worker is forked twice,
and the pool adopts it (Linux: PR_SET_CHILD_SUBREAPER): it is the pool's own child with session,
log, environment and exit code as if it had been started, and outlives the warm process.

Forking is safe since nothing has happened here but imports: no parallel operation of torch, no
thread but OpenBLAS's, which end before a fork by themselves, and no call of CUDA, which no fork
survives: torch knows whether there was one, and then this process is done without. A worker is the
first to call CUDA, with its own CUDA_VISIBLE_DEVICES. Runs of several ranks, the only run of a
pool, other systems and pools inside SLURM jobs start plainly; so do those that are left when a file
of our code changes, since what a worker imports later would be of another version.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import repro

NEEDED = (  # by a worker, which imports them as it goes along
    "repro.config.compose",
    "repro.data.composites",
    "repro.data.copies",
    "repro.data.datasets",
    "repro.data.folders",
    "repro.data.landmarks",
    "repro.data.low_shot",
    "repro.data.photographs",
    "repro.data.scenes",
    "repro.dino.fast.choice",
    "repro.evals.attention",
    "repro.evals.finetune",
    "repro.evals.linear",
    "repro.evals.logistic",
    "repro.evals.retrieval",
    "repro.evals.weights.networks",
    "repro.harness.evaluation.items",
    "repro.harness.runs.checkpoint",
    "repro.harness.worker.fitting",
    "repro.harness.worker.resume",
    "repro.harness.worker.run",
    "repro.train",
    "skimage.io",
)
READY = "ready"
PR_SET_CHILD_SUBREAPER = 36


class Adopted:
    """A worker that the warm process forked for us: what the pool uses of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # else its number may be another's
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class WarmProcess:
    """The pool's end. Everything that goes wrong with it is an OSError; the pool then does without.

    Args:
        environment: a worker's, for what libraries read as they are loaded (OMP_NUM_THREADS).
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError(f"{sys.platform} has no process that adopts another's children")
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        self.code = code_state()  # before anything is imported there
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "repro.harness.local.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Whether there is a GPU is then asked without a call of CUDA.
            env={**environment, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            start_new_session=True,
        )
        self.ready = False

    def is_ready(self) -> bool:
        """Whether it has imported everything; never waits."""
        assert self.process.stdout is not None
        if not self.ready and select.select([self.process.stdout], [], [], 0)[0]:
            self._expect(READY)
            self.ready = True
        return self.ready

    def start(self, folder: Path, environment: Mapping[str, str], log: Path) -> tuple[Adopted, int]:
        """A worker of the run in `folder`, and where its part of the log begins."""
        assert self.ready, "the warm process is asked before it has said that it is ready"
        assert self.process.stdin is not None
        if code_state() != self.code:
            raise OSError("the code has changed since it began")
        with log.open("ab") as output:
            start = output.tell()
        request = {"folder": str(folder), "environment": dict(environment), "log": str(log)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Adopted(int(self._expect(""))), start

    def close(self) -> None:
        """End it; its workers stay."""
        self.process.kill()
        self.process.communicate()

    def _expect(self, beginning: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line.startswith(beginning) or not line:
            raise OSError("the warm process is gone")
        return line


def code_state(folder: Path = Path(repro.__file__).parent) -> frozenset[tuple[str, int, int]]:
    """Every file of our code with its size and when it was written."""
    stats = ((str(file), file.stat()) for file in folder.rglob("*.py"))
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def main() -> None:
    for name in NEEDED:
        import_module(name)
    gc.freeze()  # what was imported stays: no worker looks through it, and its pages stay shared
    from repro.harness.runs.environment import code_version

    code_version()  # kept from now on: a worker runs what was imported here, whatever is edited
    if not a_fork_may_use_cuda():
        return
    print(READY)
    while line := sys.stdin.readline():
        print(_fork(**json.loads(line)))


def a_fork_may_use_cuda() -> bool:
    """Whether nothing in this process has called CUDA: torch, which tells after a fork, or others,
    of which the driver's open file tells.
    """
    import torch

    child = os.fork()
    if child == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    files = Path("/proc/self/fd").iterdir()
    in_use = any(os.path.realpath(file).startswith("/dev/nvidia-uvm") for file in files)
    return os.waitpid(child, 0)[1] == 0 and not in_use


def _fork(folder: str, environment: Mapping[str, str], log: str) -> int:
    """The number of a new worker, which this process has already left to the pool."""
    receiving, sending = os.pipe()
    between = os.fork()
    if between == 0:
        between = os.getpid()
        try:
            worker = os.fork()
        except OSError:
            os._exit(1)  # no answer
        if worker:
            os.write(sending, str(worker).encode())
            os._exit(0)
        os.close(receiving)
        os.close(sending)
        while os.getppid() == between:
            time.sleep(0.0005)
        _work(folder, environment, log)
    os.close(sending)
    with os.fdopen(receiving) as answer:
        os.waitpid(between, 0)
        return int(answer.read())


def _work(folder: str, environment: Mapping[str, str], log: str) -> NoReturn:
    """Be `python -u -m repro.harness.worker FOLDER` with this environment and log."""
    from repro.harness.worker.run import leave
    from repro.harness.worker.run import main as work

    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()  # as in a process of its own
    sys.argv[1:] = [folder]
    faulthandler.enable()
    code = 1
    try:
        code = work(sys.argv[1:])
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        traceback.print_exc()
    finally:
        leave(code)


if __name__ == "__main__":
    main()
