"""Rows trained by `repro submit` until a time is over, and those that will end in it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from repro.harness.experiments.folders import results_dir
from repro.harness.local.display import ActiveRun
from repro.harness.runs.store import RunFolder, find_runs

FIGURES, ALL = (
    ("F7:both,centering,sharpening", "F6R"),
    ("F7:both,centering,sharpening", "F6R", "T7"),
)
# Rows and seeds, what decides most first. Table 7 asks the runs that it shares for linear probes,
# which take time: not before the figures are whole.
GRIDS = ((FIGURES, 1), (ALL, 1), (ALL, 3))
PATIENCE = 7.0  # seconds that runs may take to save; an evaluation that takes longer is given up
STARTING = 8.0  # seconds from one submission to the next one's first step
TELLS = 40.0  # seconds of a submission after which its speed tells when runs will end
STALLED = 75.0  # seconds of a submission after which at least one run should have made a step


class Submission:
    """Rows with so many seeds, being trained `workers` at a time; "auto": as fill the card."""

    def __init__(self, rows: Sequence[str], seeds: int, scale: str, workers: str) -> None:
        self.begun = time.monotonic()
        grid = ["--scale", scale, "--seeds", str(seeds), "--workers", workers, "--yes"]
        command = [sys.executable, "-m", "repro.cli", "submit", *rows, *grid]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> None:
        """Every run saves a checkpoint; asked twice, those that do not are killed."""
        for _ in range(2):
            if not self.over:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    continue
        if not self.over:
            self.process.kill()
            self.process.wait()


def train(
    scale: str, workers: str, end: float, pack: Callable[[Sequence[RunFolder]], object]
) -> None:
    """Until all is done or the monotonic clock says `end`.

    Args:
        pack: takes the finished runs, whenever one has joined them.
    """
    packed, fewer = 0, ""
    seen: dict[Path, ActiveRun] = {}
    for rows, seeds in GRIDS:
        if time.monotonic() >= end:
            return
        submission = Submission(rows, seeds, scale, workers)
        try:
            while time.monotonic() < end:
                time.sleep(0.5)
                over = submission.over
                done, others = runs_of(scale)
                if len(done) > packed:
                    packed = len(done)
                    pack(done)
                for folder in others:
                    seen.setdefault(folder.path, ActiveRun(folder)).update(time.monotonic())
                if not (done or fewer):
                    waited, left = time.monotonic() - submission.begun, end - time.monotonic()
                    fewer = at_a_time(list(seen.values()), waited, left, over)
                    if fewer:
                        print(f"continued {fewer} at a time", flush=True)
                        submission.stop()
                        submission = Submission(rows, seeds, scale, fewer)
                        continue
                if over:
                    break
        finally:
            submission.stop()


def at_a_time(runs: Sequence[ActiveRun], waited: float, left: float, over: bool) -> str:
    """How many runs at a time to go on with, while none is done yet; empty: as it is.

    Args:
        waited, left: seconds since the submission and until the end.
        over: the submission has ended: whatever hindered its runs, sharing a card may have.
    """
    if over or (waited > STALLED and not any(run.step for run in runs)):
        return "1"
    lefts = [run.seconds_left for run in runs]
    number = that_end_within(left, [one for one in lefts if one is not None])
    return str(number) if number and waited > TELLS else ""


def runs_of(scale: str) -> tuple[list[RunFolder], list[RunFolder]]:
    """Finished runs and others that have begun, in the order in which they were asked for."""
    found = [(f, f.read_run()) for f in find_runs(results_dir() / "runs")]
    begun = [(run.created or 0.0, f) for f, run in found if run.scale == scale and run.attempts]
    in_order = [folder for _, folder in sorted(begun, key=lambda pair: pair[0])]
    done = [folder for folder in in_order if folder.result() is not None]
    return done, [folder for folder in in_order if folder not in done]


def that_end_within(seconds: float, left: Sequence[float]) -> int:
    """How many runs at a time end within `seconds`, where those in training do not: fewer of them
    share the card and are faster. 0 where the present number may stay, or none would end.
    """
    if not left or min(left) <= seconds:
        return 0
    return int(len(left) * (seconds - STARTING) / min(left))
