"""What a SLURM job does with the one path it receives: a run folder, or a list of them (a pack).

The job is a local pool inside its allocation: it starts a worker for every run, records how workers
died, and outlives them. Only a run that shares its batch between tasks (`resources.ranks`) has one
such job process a task (`tasks.py`).

On a signal of SLURM trainings save and stop, and evaluations stop where they are; `restart.py` says
what becomes of the job then.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from repro.errors import UserError
from repro.files import read_object
from repro.hardware import visible_gpus
from repro.harness.evaluation import stage as evaluation
from repro.harness.local.display import Display
from repro.harness.local.pool import Outcome, Pool, make_slots
from repro.harness.runs import variables
from repro.harness.runs.store import RunFolder
from repro.harness.slurm import restart
from repro.harness.slurm.tasks import follow, leading
from repro.harness.worker.run import USER_MISTAKE

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


def train(path: str) -> None:
    """Train the run of the folder `path`, or the runs of the list `path`; see the module.

    Ends the process with an exit code other than 0 unless all that it trained got done, or some of
    it did and the rest failed.
    """
    os.environ.update(variables.TRAIN_ONLY.holding(1))  # evaluations are jobs of their own
    # Until the pool or the watch over a rank listens, a warning must not end the job unseen.
    early: list[signal.Signals] = []
    for number in SIGNALS:
        signal.signal(number, lambda n, _: early.append(signal.Signals(n)))
    folders = run_folders(path)
    ranks, rank = variables.SLURM_TASKS.read(), variables.SLURM_TASK.read()
    if ranks > 1 and rank > 0:
        code = follow(folders[0], rank, early)
        _hear_no_more()
        sys.exit(code)
    with leading(folders[0], ranks):
        code = _lead(folders, ranks, early)
    _hear_no_more()
    if code:
        sys.exit(code)


def _hear_no_more() -> None:
    """What is to happen next is written down. A Python that ends gives signals back what they do by
    default, so that a second warning would end the job as if it had said nothing.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Stopped(BaseException):
    """SLURM asked an evaluation to stop; no `except Exception` on the way takes it for an error."""


def evaluate(path: str) -> None:
    """Evaluate the finished runs of `path`; ends with exit code 1 if a protocol failed."""
    received: list[signal.Signals] = []

    def stop(number: int, _: object) -> None:
        _hear_no_more()
        received.append(signal.Signals(number))
        raise Stopped

    folders, failed = run_folders(path), False
    before = _evaluations(folders)
    try:
        for number in SIGNALS:
            signal.signal(number, stop)
        for folder in folders:
            if folder.result() is None:
                print(f"{folder.path.name}: not trained, hence not evaluated")
                continue
            # Should this job be killed, an earlier one's failure must not pass for its own.
            for earlier in (folder.path / "evaluations").glob("*.failure.json"):
                earlier.unlink()
            failed |= not evaluation.evaluate(folder)
    except Stopped:
        unfinished = [folder for folder in folders if evaluation.missing(folder)]
        progress = _evaluations(folders) > before
        code, why = restart.after_a_stopped_evaluation(unfinished, received, progress)
        if why:
            for folder in unfinished:
                evaluation.give_up(folder, why)
        sys.exit(code)
    if failed:
        sys.exit(1)


def run_folders(path: str) -> list[RunFolder]:
    """The folders a job's path stands for; ends the process where it is damaged."""
    if Path(path).is_dir():
        return [RunFolder(Path(path))]
    try:
        runs = (read_object(Path(path)) or {}).get("runs")
    except UserError as error:
        print(f"{error}; submit again")
        sys.exit(USER_MISTAKE)
    if not isinstance(runs, list) or not all(isinstance(folder, str) for folder in runs):
        print(f"{path}: neither a run folder nor a list of them; submit again")
        sys.exit(USER_MISTAKE)
    return [RunFolder(Path(folder)) for folder in runs]


def _lead(folders: Sequence[RunFolder], ranks: int, early: list[signal.Signals]) -> int:
    """The exit code of a job that has trained these runs."""
    cores = variables.SLURM_CPUS.read()
    packed = min(variables.PACKED.read(), len(folders))
    # Ranks see the same GPUs, each its own by its local rank: with other visible ones for the
    # leader NCCL would do without its fast paths, or two ranks take one GPU.
    gpus = visible_gpus() if ranks == 1 else []
    # A worker divides its threads by its ranks, which here have cores of their own.
    slots = make_slots(len(folders), gpus, packed, max(1, cores // packed) * ranks)
    outcome = Outcome()
    with Display(len(folders), 0, packed, Console(width=200)) as display:
        pool = Pool(deque(folders), slots, display, outcome, patient=True)
        received = list(early)

        def listen(number: int, frame: FrameType | None) -> None:
            received.append(signal.Signals(number))
            pool.on_signal(number, frame)

        for number in SIGNALS:
            signal.signal(number, listen)
        pool.asked = min(1, len(received))
        pool.work()
    if outcome.interrupted:
        return restart.after_a_stop(outcome.interrupted, received)
    return 0 if outcome.done else 1


def _evaluations(folders: Sequence[RunFolder]) -> int:
    return sum(len(folder.evaluations()) for folder in folders)
