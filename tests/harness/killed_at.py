"""Workers that are killed at a file operation, each of them in turn, and go on.

`count(folder)` says how many operations a run's worker makes; `Killed(folder, number, moment)`
is one that SIGKILL ends before, in the middle of or after one of them. What was written to a file
since it was opened is cut before its `fsync`, as when the machine loses its power; every writer
here synchronises before it closes, so nothing older can go. All of them, one after the other:

    python -m tests.harness.killed_at 300
"""

from __future__ import annotations

import io
import os
import random
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from repro.config.compose import compose
from repro.harness.runs.store import RunFolder, create_run
from tests.harness import processes

SETTINGS = {"train.epochs": 4, "eval.every_epochs": 2, "reporting.checkpoint_seconds": 0}
TIMED = ("wall_seconds", "seconds", "peak_memory")
MOMENTS = ("before", "torn", "after")
Place = tuple[int, str]  # an operation of an attempt, and the moment
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


class Operations:
    """Counts the file operations of this process, and ends it at one of them."""

    def __init__(self, number: int, moment: str) -> None:
        self.number, self.moment, self.done = number, moment, 0
        self.kept: dict[int, int] = {}  # by inode: bytes that the disk had confirmed at its opening
        for name in ("replace", "rename", "unlink", "mkdir", "fsync"):
            setattr(os, name, self._counted(getattr(os, name), name))
        plain = io.open

        def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            writes = set(mode) & set("wax+") and not str(file).startswith("/dev")
            found = (self._counted(plain, "open") if writes else plain)(file, mode, *rest, **more)
            if writes:
                there = os.fstat(found.fileno())
                self.kept[there.st_ino] = there.st_size
            return found

        io.open = opened  # type: ignore[assignment]

    def _counted(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.done += 1
            meant = self.done == self.number
            file = os.fstat(arguments[0]) if name == "fsync" else None
            if meant and self.moment == "torn" and file:
                lost = random.Random(file.st_size).randint(1, 300)
                os.ftruncate(arguments[0], max(self.kept.get(file.st_ino, 0), file.st_size - lost))
            if meant and self.moment != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = call(*arguments, **options)
            if meant:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return counted


class Killed(processes.Forked):
    def __init__(self, folder: RunFolder, number: int, moment: str, count_file: str = "") -> None:
        self.plan = (number, moment, count_file)
        super().__init__(folder, work=_work, more=self.plan)


def _work(
    folder: str, output: str, environment: dict[str, str], number: int, moment: str, said: str
) -> None:
    operations = Operations(number, moment)
    try:
        processes._work(folder, output, environment)
    finally:
        if said:
            Path(said).write_text(str(operations.done))


def count(folder: RunFolder) -> int:
    """The operations of a worker that trains and evaluates this run to its end."""
    said = folder.path.with_suffix(".count")
    process = Killed(folder, 0, "before", str(said))
    process.wait()
    assert process.returncode == 0
    return int(said.read_text())


def left(folder: RunFolder) -> dict[str, Any]:
    """All that a run leaves, but for what depends on the clock."""
    state = torch.load(folder.path / "checkpoints" / "last.pt", weights_only=True)
    evaluations = {name: dict(made.metrics) for name, made in folder.evaluations().items()}
    return {
        "metrics": processes.timeless(folder.metrics()),
        "result": processes.timeless_result(folder),
        "evaluations": evaluations,
        "state": {k: v for k, v in state.items() if k not in TIMED},
    }


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


class Trials:
    """Runs in `root` that are killed again and again; every attempt is given other threads."""

    def __init__(self, root: Path, settings: dict[str, Any] = SETTINGS) -> None:
        self.root, self.config, self.number = root, compose(EXPERIMENTS, "smoke", settings), 0
        self.whole = {}
        for threads in (2, 1):
            os.environ["REPRO_THREADS"] = str(threads)
            folder = create_run(root / f"whole-{threads}", "whole", self.config)
            self.operations = count(folder)
            self.whole[threads] = left(folder)

    def trial(self, places: deque[Place], most: int) -> tuple[list[Place], str]:
        """The kills of a run, each at the next of the places that its attempt comes to, and what is
        wrong at its end, if anything.
        """
        self.number += 1
        folder = create_run(self.root / str(self.number), "killed", self.config)
        kills: list[Place] = []
        threads = 1
        while places and len(kills) < most:
            place = places.popleft()
            if not self._kill(folder, place, 2 if kills else 1):
                places.append(place)  # this attempt came to its end before it
                break
            kills.append(place)
            checkpoints = folder.path / "checkpoints"
            if not any((checkpoints / f"{name}.pt").exists() for name in ("last", "previous")):
                threads = 2  # it begins again, with what the attempts after the first are given
        code, output = processes.train(folder)
        if code:
            return kills, f"{kills}: exit code {code}: {output}"
        if folder.environment()["hardware"]["threads"] != threads:
            return kills, f"{kills}: not with the {threads} threads that it began with"
        found, whole = left(folder), self.whole[threads]
        other = [part for part in whole if not same(whole[part], found[part])]
        return kills, f"{kills}: other {', '.join(other)}" if other else ""

    def _kill(self, folder: RunFolder, place: Place, threads: int) -> bool:
        """Whether an attempt was killed there; the next one is given two threads, and can begin."""
        os.environ["REPRO_THREADS"] = str(threads)
        process = Killed(folder, *place)
        process.wait()
        os.environ["REPRO_THREADS"] = "2"
        for lease in [*folder.path.glob("lock.*"), *folder.path.glob("evaluations/.lock.*")]:
            if not lease.read_text():  # killed as it was announced: it counts for a minute
                os.utime(lease, (0, 0))
        return process.returncode == -signal.SIGKILL


def main(most: int) -> int:
    """Of DINO's worker every operation and moment in turn, then the same of others' methods."""
    done = wrong = 0
    for method in ("dino", "mocov2", "byol", "swav", "supervised"):
        with TemporaryDirectory() as root:
            trials = Trials(Path(root), {**SETTINGS, "method": method})
            every = [(n, moment) for n in range(1, trials.operations + 1) for moment in MOMENTS]
            random.Random(0).shuffle(every)
            places = deque(every)
            while places and done < most:
                kills, fault = trials.trial(places, 6)
                done, wrong = done + len(kills), wrong + bool(fault)
                print(f"{method}: {done} kills, {wrong} runs wrong {fault}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
