"""Rows trained by `repro submit` until a time is over, and those that will end in it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from repro.harness.experiments.folders import results_dir
from repro.harness.runs.store import RunFolder, find_runs

ROWS = ("F7:both,centering,sharpening", "F6R", "T7")
SEEDS = (1, 3)
PATIENCE = 7.0  # seconds that runs may take to save; an evaluation that takes longer is given up
STARTING = 8.0  # seconds from one submission to the next one's first step
TELLS = 40.0  # seconds of a submission after which its speed tells when runs will end


class Submission:
    """All rows with so many seeds, being trained `workers` at a time; "auto": as fill the card."""

    def __init__(self, scale: str, seeds: int, workers: str) -> None:
        self.seeds, self.begun = seeds, time.monotonic()
        grid = ["--scale", scale, "--seeds", str(seeds), "--workers", workers, "--yes"]
        command = [sys.executable, "-m", "repro.cli", "submit", *ROWS, *grid]
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
    packed = focused = 0
    for seeds in SEEDS:
        submission = Submission(scale, seeds, workers)
        try:
            while not submission.over and time.monotonic() < end:
                time.sleep(0.5)
                done, others = runs_of(scale)
                if len(done) > packed:
                    packed = len(done)
                    pack(done)
                elif not (done or focused) and time.monotonic() - submission.begun > TELLS:
                    left = end - time.monotonic() - STARTING
                    focused = that_end_within(left, seconds_left(others))
                    if focused:
                        print(f"not all will end in time: {focused} at a time", flush=True)
                        submission.stop()
                        submission = Submission(scale, seeds, str(focused))
        finally:
            submission.stop()


def runs_of(scale: str) -> tuple[list[RunFolder], list[RunFolder]]:
    """Finished runs and others that have begun, in the order in which they were asked for."""
    found = [(f, f.read_run()) for f in find_runs(results_dir() / "runs")]
    begun = [(run.created or 0.0, f) for f, run in found if run.scale == scale and run.attempts]
    in_order = [folder for _, folder in sorted(begun, key=lambda pair: pair[0])]
    done = [folder for folder in in_order if folder.result() is not None]
    return done, [folder for folder in in_order if folder not in done]


def seconds_left(folders: Iterable[RunFolder]) -> list[float]:
    """Of the runs in training, at the speed that they have had so far."""
    left = []
    for folder in folders:
        run, step = folder.read_run(), folder.step
        if step and run.started and run.total_steps:
            left.append((run.total_steps - step) * (time.time() - run.started) / step)
    return left


def that_end_within(seconds: float, left: Sequence[float]) -> int:
    """How many runs at a time end within `seconds`, where those in training do not: fewer of them
    share the card and are faster. 0 where the present number may stay, or none would end.
    """
    if not left or min(left) <= seconds:
        return 0
    return int(len(left) * seconds / min(left))
