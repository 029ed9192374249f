"""`python -m repro.harness.worker RUN_FOLDER`: trains one run, from its folder and into its folder,
and evaluates it (`evaluation/stage.py`), unless evaluations are jobs of their own.

The folder's path is the only input; whoever starts the worker (the local pool, a batch system, a
person) learns the outcome from the exit code and from the folder:

    0  done            result.json
    1  failed          failure.json
    2  user's mistake  failure.json, kind `user` or `data`
    3  busy            another live process holds the folder; nothing was touched
    4  stopped         asked by SIGINT, SIGTERM, SIGUSR2 or the cancel marker; resumable

A run with several ranks has one worker a rank: rank 0 does all of the above, the others train along
and write nothing (`ranks.py`).

Metric lines are on disk before the checkpoint that follows them, so a resumed run cuts the lines
after its checkpoint and writes them again.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from repro.errors import UserError
from repro.harness.evaluation import stage as evaluation
from repro.harness.runs import variables
from repro.harness.runs.environment import environment
from repro.harness.runs.failures import (
    Failure,
    FailureKind,
    failure_of,
    failure_of_a_rank,
    is_echo,
    note_of_rank,
)
from repro.harness.runs.records import early_end
from repro.harness.runs.states import State
from repro.harness.runs.store import LINES, RunFolder
from repro.harness.worker.journal import Journal
from repro.harness.worker.presence import heartbeat, own_place, whereabouts
from repro.harness.worker.ranks import followers, is_follower, own_rank, store
from repro.harness.worker.reporters import reporters
from repro.locks import Busy
from repro.terminal import percent

if TYPE_CHECKING:
    import torch

    from repro.config.schema import RunConfig
    from repro.data.dataset import Dataset
    from repro.harness.runs.checkpoint import Found
    from repro.train import Trainer

DONE, FAILED, USER_MISTAKE, BUSY, STOPPED = range(5)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
NOTE_SECONDS = 5.0  # within which a rank whose end is noticed has said why
FLOORS_SECONDS = 20.0  # of the evaluation before the first step, from which on it is saved at once
ATTEMPT = "=== attempt"  # begins an attempt's part of a run's log


class StopRequest:
    """Why the run should stop at its next resting place; an empty `reason` means go on.

    A signal only sets the flag, so that no step, evaluation or checkpoint is cut in two.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.reason = ""
        self.pool = variables.POOL_PID.read()
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, *_: object) -> None:
        self.reason = signal.Signals(number).name

    def look(self) -> None:
        """Notice a cancel marker, and a pool that was killed and can no longer send a signal."""
        if self.folder.cancel_requested():
            self.reason = "cancelled"
        elif self.pool and os.getppid() != self.pool:
            self.reason = "the pool that started this run is gone"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m repro.harness.worker RUN_FOLDER", file=sys.stderr)
        return USER_MISTAKE
    return work(Path(arguments[0]))


def leave(code: int) -> NoReturn:
    """End this process as the interpreter does, but for taking torch apart, a second or more."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def work(path: Path) -> int:
    """Train the run of the folder `path` to its end, from its last checkpoint if there is one.

    Returns:
        The exit code, as in the module's docstring. Failures are written, not raised.
    """
    if not (path / "config.yaml").is_file():
        print(f"{path}: not a run folder, it has no config.yaml", file=sys.stderr)
        return USER_MISTAKE
    folder = RunFolder(path)
    stop = StopRequest(folder)
    if is_follower():
        return _attempt_along(folder, stop)
    try:
        with folder.lock():
            if folder.result() is not None:
                print(f"{path}: already done")
                code = DONE
            else:
                code = _attempt(folder, stop)
    except Busy as busy:
        print(busy)
        return BUSY
    except UserError as error:  # a damaged folder, which is left as it is
        print(error)
        return USER_MISTAKE
    if code == DONE and not trains_only() and evaluation.missing(folder):
        from repro.gpu import give_back

        give_back()  # networks and activations of the training
        evaluation.evaluate(folder)
    return code


def trains_only() -> bool:
    return bool(variables.TRAIN_ONLY.read())


def _attempt(folder: RunFolder, stop: StopRequest) -> int:
    config: RunConfig | None = None
    try:
        attempt = folder.read_run().attempts + 1
        me = own_place()
        print(f"{ATTEMPT} {attempt}, {time.ctime()}, {' '.join(whereabouts(me))} ===")
        folder.update_run(state=State.running, attempts=attempt, started=time.time(), **me)
        folder.event("started", attempt=attempt, **me)
        config = folder.config()
        ranks = config.resources.ranks

        def tell(failure: Failure) -> None:
            code = _ended(folder, failure, stop)
            sys.stdout.flush()
            os._exit(code)  # the main thread waits for what does not come

        beating = heartbeat(folder, config.reporting.heartbeat_seconds)
        with beating, followers(folder.path, ranks, tell) as listening:
            return _train(folder, config, stop, listening)
    except Exception as error:  # noqa: BLE001  whatever happened, the folder must tell of it
        failure = failure_of(error, folder.step)
        if config is not None and config.resources.ranks > 1 and is_echo(failure):
            failure = _failure_behind(failure, folder, stop)
        code = _ended(folder, failure, stop)
        return USER_MISTAKE if code == FAILED and isinstance(error, UserError) else code


def _attempt_along(folder: RunFolder, stop: StopRequest) -> int:
    """Train along with rank 0, which tells of what this rank leaves in a note."""
    rank = own_rank()
    me = own_place()
    if me["job"]:  # on one machine all ranks share a log
        print(f"{ATTEMPT} of rank {rank}, {time.ctime()}, {' '.join(whereabouts(me))} ===")
    try:
        return _train(folder, folder.config(), stop, None)
    except Exception as error:  # noqa: BLE001  whatever happened, rank 0 must hear of it
        failure = failure_of(error, folder.step)
        if stop.reason and failure.kind is FailureKind.code:
            return STOPPED
        with suppress(OSError):
            note_of_rank(folder.path, rank, failure)
        print(f"{failure.traceback}failed ({failure.kind}): {failure.line}")
        return FAILED


def _failure_behind(failure: Failure, folder: RunFolder, stop: StopRequest) -> Failure:
    """Of the rank whose end this one has noticed, once that has had time to leave its note."""
    deadline = time.monotonic() + NOTE_SECONDS
    while True:
        other = failure_of_a_rank(folder.path)
        if other is not None and not is_echo(other):
            return other
        if stop.reason or time.monotonic() > deadline:
            return failure
        time.sleep(0.2)


def _ended(folder: RunFolder, failure: Failure, stop: StopRequest) -> int:
    """Write down what ended the attempt, here or in another rank; the exit code."""
    ended = any(f"killed by {number.name}" in failure.line for number in STOP_SIGNALS)
    if stop.reason and (failure.kind is FailureKind.code or ended):
        # A process of this run was ended before it could stop by itself: signals reach them all.
        print(f"{failure.line}; it had been asked to stop ({stop.reason})")
        return _stopped(folder, failure.step, stop.reason, "its last checkpoint counts")
    # On a full disk none of this may fit; the exit code remains.
    with suppress(OSError, UserError):
        folder.fail(failure)
        folder.event("failed", kind=failure.kind, line=failure.line)
        print(f"failed ({failure.kind}) at step {failure.step}: {failure.line}")
    return FAILED


def _train(
    folder: RunFolder, config: RunConfig, stop: StopRequest, listening: socket.socket | None
) -> int:
    begun = time.monotonic()
    # Only now: a busy folder and a broken config are answered without waiting for torch.
    import torch

    from repro import distributed
    from repro.data.datasets import open_dataset
    from repro.distributed import choose_device, open_device
    from repro.hardware import keep_freed_memory
    from repro.harness.worker import resume
    from repro.harness.worker.fitting import naming_what_fits

    keep_freed_memory()
    ranks = config.resources.ranks
    found = resume.newest(folder)
    threads = config.resources.threads or variables.THREADS.read()
    if threads := resume.threads(found, threads and max(1, threads // ranks)):
        torch.set_num_threads(threads)
    kind = choose_device(config.resources.device.value).type
    distributed.take_place(ranks, kind)
    meeting = store(listening) if ranks > 1 else None
    device = open_device(config.resources.device.value, config.resources.deterministic)
    # Each rank by itself, for as long as it takes there.
    paths = config.paths
    dataset = open_dataset(config.data, paths.data, config.resources, device, paths.labelled)
    data = dataset.digests()
    resume.check_data(folder, found, data)
    with (
        distributed.joined(ranks, kind, meeting),
        naming_what_fits(config, dataset, device),
    ):
        return _train_on(dataset, data, device, folder, config, stop, begun, found)


def _train_on(
    dataset: Dataset,
    data: dict[str, str],
    device: torch.device,
    folder: RunFolder,
    config: RunConfig,
    stop: StopRequest,
    begun: float,
    found: Found,
) -> int:
    from repro.evals import throughput
    from repro.harness.worker import resume
    from repro.train import Trainer

    make = partial(Trainer, config, dataset, device)
    trainer, found = resume.fill(folder, found, make)
    resume.check_data(folder, found, data)
    earlier_seconds = found.state["wall_seconds"] if found.state is not None else 0.0
    if is_follower():
        return _follow(trainer, stop)
    env = environment(device.type)
    env["hardware"]["ranks"] = config.resources.ranks
    env["kernels"] = trainer.kernels.words()
    env["im_s"] = throughput.DEFINITION
    env["data"] = data
    folder.write_environment(env)
    lines = resume.take_up(folder, found, trainer.evaluation_due)
    folder.update_run(total_steps=trainer.total_steps)
    print(f"step {trainer.step} of {trainer.total_steps}, {dataset.name}, {device}")
    print(*dataset.notes, sep="\n", end="\n" if dataset.notes else "")
    mark = resume.mark(folder, data)
    return _lead(folder, trainer, stop, begun - earlier_seconds, mark, lines)


def _lead(
    folder: RunFolder,
    trainer: Trainer,
    stop: StopRequest,
    begun: float,
    mark: dict[str, Any],
    lines: int,
) -> int:
    """Train to the end, or to a stop on which all ranks agree, and write it all down.

    Args:
        begun: the monotonic time at which an uninterrupted run would have begun.
        mark: what its checkpoints say of themselves.
        lines: of metrics.jsonl, which are there from the attempts before.
    """
    from repro import distributed
    from repro.harness.runs import checkpoint

    def save() -> None:
        state = trainer.state_dict() | {"wall_seconds": time.monotonic() - begun}
        state |= {LINES: journal.written}
        checkpoint.save(folder.path / "checkpoints", state | mark)

    saved, saved_at = time.monotonic(), (trainer.step, trainer.epoch_ended)
    seconds = trainer.config.reporting.checkpoint_seconds
    with (
        reporters(folder, trainer.config, trainer.step) as report,
        Journal(folder, trainer, report, lines) as journal,
    ):
        for event in trainer.run():
            journal.see(event)
            if not at_rest(event):
                continue
            stop.look()
            if distributed.any_rank(bool(stop.reason)) and not stop.reason:
                stop.reason = "another rank was asked to stop"
            overdue = time.monotonic() - saved >= seconds
            # An evaluation may take longer than SLURM's warning leaves.
            pause = event["kind"] == "epoch" or trainer.evaluation_due
            floors = event["step"] == 0 and time.monotonic() - saved >= FLOORS_SECONDS
            if stop.reason or floors or (pause and overdue):
                journal.flush()
                save()
                saved, saved_at = time.monotonic(), (trainer.step, trainer.epoch_ended)
            if stop.reason:
                return _stopped(folder, trainer.step, stop.reason)
    if saved_at != (trainer.step, trainer.epoch_ended):
        save()
    result = trainer.result() | {"wall_seconds": time.monotonic() - begun, LINES: journal.written}
    folder.event("done", step=trainer.step)
    folder.finish(result)
    accuracy = percent(result["metrics"]["knn"])
    early = early_end(result, str(folder.path))
    how = f"{early}, " if early else ""
    print(f"done: {how}k-NN {accuracy}, {result['wall_seconds']:.0f} s")
    return DONE


def _follow(trainer: Trainer, stop: StopRequest) -> int:
    """Train along with rank 0, which writes everything down."""
    from repro import distributed

    for event in trainer.run():
        resting = at_rest(event)
        if resting and distributed.any_rank(bool(stop.reason)):
            return STOPPED
    return DONE


def at_rest(event: dict[str, Any]) -> bool:
    """Whether a run may be stopped and resumed after this event.

    Not after an evaluation, before what follows it: a resumed run would repeat it. That before the
    first step is kept.
    """
    return event["kind"] in ("step", "epoch") or event["step"] == 0


def _stopped(
    folder: RunFolder, step: int, reason: str, kept: str = "the checkpoint is saved"
) -> int:
    state = State.cancelled if folder.cancel_requested() else State.interrupted
    folder.update_run(state=state, ended=time.time())
    folder.event(state, step=step, reason=reason)
    print(f"{state} at step {step} ({reason}); {kept}")
    return STOPPED
