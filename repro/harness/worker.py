"""`python -m repro.harness.worker RUN_FOLDER`: trains one run, from its folder and into its folder.

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

import errno
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from repro.errors import UserError
from repro.harness.environment import environment
from repro.harness.files import write_json
from repro.harness.ranks import followers, is_follower
from repro.harness.store import RunBusy, RunFolder

if TYPE_CHECKING:
    from repro.config import RunConfig
    from repro.dino.train import Trainer

DONE, FAILED, USER_MISTAKE, BUSY, STOPPED = range(5)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
POOL_VARIABLE = "REPRO_POOL_PID"  # set by the local pool: stop when that process is gone
THREADS_VARIABLE = "REPRO_THREADS"  # set by a backend that divides the machine's cores
FLUSH_SECONDS = 1.0
PRINT_SECONDS = 10.0


class StopRequest:
    """Why the run should stop at its next resting place; an empty `reason` means go on.

    A signal only sets the flag, so that no step, evaluation or checkpoint is cut in two.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.reason = ""
        self.pool = os.environ.get(POOL_VARIABLE)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, *_: object) -> None:
        self.reason = signal.Signals(number).name

    def look(self) -> None:
        """Notice a cancel marker, and a pool that was killed and can no longer send a signal."""
        if self.folder.cancel_requested():
            self.reason = "cancelled"
        elif self.pool is not None and os.getppid() != int(self.pool):
            self.reason = "the pool that started this run is gone"


def main(words: list[str]) -> int:
    if len(words) != 1:
        print("usage: python -m repro.harness.worker RUN_FOLDER", file=sys.stderr)
        return USER_MISTAKE
    return work(Path(words[0]))


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
        return _train(folder, folder.config(), stop)
    try:
        with folder.lock():
            if folder.result() is not None:
                print(f"{path}: already done")
                return DONE
            return _attempt(folder, stop)
    except RunBusy as busy:
        print(busy)
        return BUSY


def _attempt(folder: RunFolder, stop: StopRequest) -> int:
    try:
        attempt = folder.read_run().get("attempts", 0) + 1
        me = {"pid": os.getpid(), "host": socket.gethostname()}
        folder.update_run(state="running", attempts=attempt, started=time.time(), **me)
        folder.event("started", attempt=attempt, **me)
        config = folder.config()
        ranks = config.resources.ranks
        with _heartbeat(folder, config.reporting.heartbeat_seconds), followers(folder.path, ranks):
            return _train(folder, config, stop)
    except Exception as error:  # noqa: BLE001  whatever happened, the folder must tell of it
        failure = describe(error, (folder.last_step() or {"step": 0})["step"])
        # On a full disk none of this may fit; the exit code remains.
        with suppress(OSError):
            folder.fail(failure)
            folder.event("failed", kind=failure["kind"], line=failure["line"])
            print(f"failed ({failure['kind']}) at step {failure['step']}: {failure['line']}")
        return USER_MISTAKE if isinstance(error, UserError) else FAILED


def _train(folder: RunFolder, config: RunConfig, stop: StopRequest) -> int:
    begun = time.monotonic()
    # Only now: a busy folder and a broken config are answered without waiting for torch.
    import torch

    from repro.data.datasets import open_dataset
    from repro.dino import checkpoint, distributed
    from repro.dino.kernels import keep_freed_memory
    from repro.dino.train import Trainer, choose_device

    keep_freed_memory()
    ranks = config.resources.ranks
    if threads := config.resources.threads or int(os.environ.get(THREADS_VARIABLE, "0")):
        torch.set_num_threads(max(1, threads // ranks))
    with distributed.joined(ranks, choose_device(config.resources.device).type):
        device = choose_device(config.resources.device)
        dataset = open_dataset(config.data, config.paths.data, config.resources, device)
        trainer = Trainer(config, dataset, device)
        state = checkpoint.load(folder.path / "checkpoints")
        earlier_seconds = state.pop("wall_seconds") if state is not None else 0.0
        if state is not None:
            trainer.load_state_dict(state)
        if is_follower():
            return _follow(trainer)
        env = environment(device.type)
        env["hardware"]["ranks"] = ranks
        env["kernels"] = trainer.kernels.words()
        write_json(folder.path / "env.json", env)
        # Without a checkpoint the evaluation at step 0 is repeated too.
        folder.truncate_metrics(trainer.step if state is not None else -1)
        folder.update_run(total_steps=trainer.total_steps)
        print(f"step {trainer.step} of {trainer.total_steps}, {dataset.name}, {device}")
        return _lead(folder, trainer, stop, begun - earlier_seconds)


def _lead(folder: RunFolder, trainer: Trainer, stop: StopRequest, begun: float) -> int:
    """Train to the end, or to a stop on which all ranks agree, and write it all down.

    Args:
        begun: the monotonic time at which an uninterrupted run would have begun.
    """
    from repro.dino import checkpoint, distributed

    def save() -> None:
        state = trainer.state_dict() | {"wall_seconds": time.monotonic() - begun}
        checkpoint.save(folder.path / "checkpoints", state)

    saved, saved_step = time.monotonic(), trainer.step
    seconds = trainer.config.reporting.checkpoint_seconds
    with Journal(folder, trainer) as journal:
        for event in trainer.run():
            journal.see(event)
            if not at_rest(event, trainer.steps_per_epoch):
                continue
            stop.look()
            distributed.any_rank(bool(stop.reason))
            overdue = time.monotonic() - saved >= seconds
            if stop.reason or (event["kind"] == "epoch" and overdue):
                journal.flush()
                save()
                saved, saved_step = time.monotonic(), trainer.step
            if stop.reason:
                return _stopped(folder, trainer, stop.reason)
    if saved_step != trainer.step:
        save()
    result = trainer.result() | {"wall_seconds": time.monotonic() - begun}
    folder.event("done", step=trainer.step)
    folder.finish(result)
    print(f"done: k-NN {result['metrics']['knn']:.1f} %, {result['wall_seconds']:.0f} s")
    return DONE


def _follow(trainer: Trainer) -> int:
    """Train along with rank 0, which alone decides when to stop."""
    from repro.dino import distributed

    for event in trainer.run():
        if at_rest(event, trainer.steps_per_epoch) and distributed.any_rank(False):
            return STOPPED
    return DONE


def at_rest(event: dict[str, Any], steps_per_epoch: int) -> bool:
    """Whether a run may be stopped and resumed after this event.

    Not between an epoch's last step and its evaluation, nor after the evaluation before the first
    step: a resumed run would leave out the one and repeat the other.
    """
    if event["kind"] == "step":
        return int(event["step"]) % steps_per_epoch != 0
    return bool(event["kind"] == "epoch")


def _stopped(folder: RunFolder, trainer: Trainer, reason: str) -> int:
    state = "cancelled" if folder.cancel_requested() else "interrupted"
    folder.update_run(state=state)
    folder.event(state, step=trainer.step, reason=reason)
    print(f"{state} at step {trainer.step} ({reason}); the checkpoint is saved")
    return STOPPED


class Journal:
    """Takes a run's events to metrics.jsonl and, every few seconds, to standard output."""

    def __init__(self, folder: RunFolder, trainer: Trainer) -> None:
        self.folder, self.trainer = folder, trainer
        self.lines: list[dict[str, Any]] = []
        self.flushed = self.printed = time.monotonic()
        self.last_step: dict[str, Any] = {}
        self.sentinel = "healthy"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After a failed write the rest must not land behind a torn line.
        if kind is None or not issubclass(kind, OSError):
            self.flush()

    def flush(self) -> None:
        self.folder.append_metrics(self.lines)
        self.lines = []
        self.flushed = time.monotonic()

    def see(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if event["kind"] == "epoch":
            return
        self.lines.append(event)
        evaluated = event["kind"] == "eval"
        if evaluated or now - self.flushed >= FLUSH_SECONDS:
            self.flush()
        if not evaluated:
            self.last_step = event
            self._watch(event["sentinel"])
        if self.last_step and (evaluated or now - self.printed >= PRINT_SECONDS):
            print(progress_line(self.last_step, self.trainer.total_steps))
            self.printed = now
        if evaluated:
            teacher, student = event["knn"], event["student_knn"]
            print(f"step {event['step']}: k-NN teacher {teacher:.1f} %, student {student:.1f} %")

    def _watch(self, sentinel: str) -> None:
        if sentinel == self.sentinel:
            return
        self.sentinel = sentinel
        report = self.trainer.sentinel.report()
        print(f"sentinel: {sentinel} since step {report['since_step']}: {report['meaning']}")
        self.folder.event("sentinel", **report)


def progress_line(event: dict[str, Any], total_steps: int) -> str:
    """One step's event in words, for logs and displays."""
    return (
        f"step {event['step']}/{total_steps}  {event['images_per_second']:.0f} images/s  "
        f"loss {event['loss']:.3f}  {output_words(event)}  {event['sentinel']}"
    )


def output_words(values: dict[str, Any]) -> str:
    """What the outputs look like, as distributions or as vectors; nan is null in the files."""
    titles = {"entropy": "entropy", "kl": "KL", "output_spread": "output spread"}
    known = {title: values[key] for key, title in titles.items() if key in values}
    return ", ".join(f"{t} {'nan' if v is None else f'{v:.3f}'}" for t, v in known.items())


@contextmanager
def _heartbeat(folder: RunFolder, seconds: float) -> Iterator[None]:
    """Beat from a thread while the process lives.

    Loading data and evaluating yield no events for minutes, so the loop could not beat; a hang is
    recognised by a step number that stands still, not by the heart.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            with suppress(OSError):  # a full disk must not end the thread, and shows elsewhere
                folder.beat()
            over.wait(seconds)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def describe(error: Exception, step: int) -> dict[str, Any]:
    """What failure.json says of `error`: kind, the decisive line, traceback, host, step."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    kind = _kind(error)
    if isinstance(error, UserError):
        # A data worker process hands its error over with its traceback in front.
        line = lines[-1].removeprefix(f"{UserError.__module__}.UserError: ")
    elif isinstance(error, OSError) and kind == "disk_full":
        line = f"{error.strerror}: free some space and submit again, the run then resumes"
    else:
        line = f"{type(error).__name__}: {lines[0]}"
    return {
        "kind": kind,
        "line": line,
        "traceback": "".join(traceback.format_exception(error)),
        "host": socket.gethostname(),
        "step": getattr(error, "step", step),
    }


def _kind(error: Exception) -> str:
    # By name: importing torch may be what failed.
    names = {base.__name__ for base in type(error).__mro__}
    if "Diverged" in names:
        return "nan"
    if names & {"OutOfMemoryError", "MemoryError"} or "can't allocate memory" in str(error):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "disk_full"
    if isinstance(error, UserError | OSError):
        frames = traceback.walk_tb(error.__traceback__)
        if any(f.f_globals.get("__name__", "").startswith("repro.data") for f, _ in frames):
            return "data"
    return "user" if isinstance(error, UserError) else "code"


if __name__ == "__main__":
    faulthandler.enable()  # a crash in native code leaves its stack in the log
    sys.exit(main(sys.argv[1:]))
