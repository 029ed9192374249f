"""Real workers for the harness's tests: started, waited for, compared.

`start_command` starts what a backend starts, which imports torch and its friends for seconds before
it works. `start` forks a worker from a process that has imported them once.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from repro.harness.local.warm import NEEDED
from repro.harness.runs.store import RunFolder

LONG = {"train.epochs": 15, "eval.every_epochs": 6}
LONG_STEPS = 60  # of about 20 ms
WAIT = 300.0  # seconds; only a broken worker takes that long

IMPORTED_ONCE = [*NEEDED, "cv2"]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(IMPORTED_ONCE)


def start_command(folder: RunFolder, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "repro.harness.worker", str(folder.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


class Forked:
    """A worker in a process of its own; used as a `subprocess.Popen` is."""

    def __init__(
        self, folder: RunFolder, work: Callable[..., None] | None = None, more: tuple[Any, ...] = ()
    ) -> None:
        self._output = tempfile.NamedTemporaryFile("r")  # noqa: SIM115  read when it has ended
        arguments = (str(folder.path), self._output.name, dict(os.environ), *more)
        self._process = FORKS.Process(target=work or _work, args=arguments, daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float = WAIT) -> None:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)

    def communicate(self, timeout: float = WAIT) -> tuple[str, None]:
        self.wait(timeout)
        return self._output.read(), None


def _work(folder: str, output: str, environment: dict[str, str]) -> None:
    """What `python -m repro.harness.worker` does, into a file."""
    from repro.harness.worker.run import main

    descriptor = os.open(output, os.O_WRONLY)
    for standard in (sys.stdout, sys.stderr):
        os.dup2(descriptor, standard.fileno())
        standard.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    faulthandler.enable()
    sys.exit(main([folder]))


def start(folder: RunFolder) -> Forked:
    return Forked(folder)


def train(folder: RunFolder) -> tuple[int, str]:
    """Exit code and output of a worker that runs to its end."""
    return _ended(start(folder))


def train_command(folder: RunFolder, **options: Any) -> tuple[int, str]:
    return _ended(start_command(folder, **options))


def trained(folder: RunFolder) -> RunFolder:
    """It, once a worker has trained it to its end and left its log where the pool sends it."""
    code, output = train_command(folder)
    assert code == 0, output
    (folder.path / "log.txt").write_text(output)
    return folder


def _ended(process: Forked | subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode is not None
    return process.returncode, output


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def wait_for_step(folder: RunFolder, step: int) -> None:
    wait_for(lambda: folder.step >= step, f"step {step}")


def timeless(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metric lines without what depends on the clock."""
    return [{k: v for k, v in event.items() if k != "images_per_second"} for event in events]


def timeless_result(folder: RunFolder) -> dict[str, Any]:
    result = folder.result()
    assert result is not None
    metrics = {k: v for k, v in result["metrics"].items() if k not in ("im_s", "time_h", "mem_G")}
    return {"metrics": metrics, "sentinel": result["sentinel"], "counts": result["counts"]}
