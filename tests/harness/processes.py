"""Real workers for the harness's tests: started, waited for, compared."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from repro.harness.runs.store import RunFolder

LONG = {"train.epochs": 15, "eval.every_epochs": 6}
LONG_STEPS = 60  # of about 20 ms
WAIT = 300.0  # seconds; only a broken worker takes that long


def start(folder: RunFolder, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "repro.harness.worker", str(folder.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def train(folder: RunFolder, **options: Any) -> tuple[int, str]:
    """Exit code and output of a worker that runs to its end."""
    process = start(folder, **options)
    output, _ = process.communicate(timeout=WAIT)
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
