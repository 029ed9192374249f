"""The local backend: a bounded pool of worker processes, first in first out.

One process a run, in a session of its own, so that Ctrl-C in a terminal reaches the pool alone; the
pool passes it on as SIGTERM and waits for the checkpoints. Where a pool trains several runs, a warm
process forks them (`warm.py`), so that torch is imported once; several on one GPU share it
(`card.py`). A worker that notices that its pool is gone saves a checkpoint and stops, so a killed
pool leaves no process behind.

Two pools may be given the same runs at the same moment: a run's lock decides who trains it, and
the other waits for the result.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from repro.config.schema import Device
from repro.errors import UserError
from repro.hardware import available_cores, visible_gpus
from repro.harness.evaluation import stage as evaluation
from repro.harness.evaluation.requests import ask
from repro.harness.local.card import shared_cards
from repro.harness.local.display import Display
from repro.harness.local.warm import Adopted, WarmProcess
from repro.harness.runs import variables
from repro.harness.runs.failures import failure_of_the_dead
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.states import State
from repro.harness.runs.store import RunFolder, add_tags, create_runs, refresh_resources
from repro.harness.worker.run import BUSY, STOPPED, trains_only

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Outcome:
    """How every run given to `dispatch` ended; each run is in exactly one list."""

    already_done: list[RunFolder] = field(default_factory=list)
    done: list[RunFolder] = field(default_factory=list)
    failed: list[RunFolder] = field(default_factory=list)
    cancelled: list[RunFolder] = field(default_factory=list)
    interrupted: list[RunFolder] = field(default_factory=list)  # stopped or never begun; resumable


@dataclass(frozen=True)
class Slot:
    """A place for one worker at a time: its share of the cores, and its GPU where there is one."""

    threads: int
    gpu: str | None

    def environment(self) -> dict[str, str]:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        threads = dict.fromkeys(names, str(self.threads)) | variables.THREADS.holding(self.threads)
        gpu = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        # Threads that wait for each other spin for milliseconds by default. Where two pools share
        # the cores, they spin for threads that cannot run, and all are 5 to 20 times slower.
        spin = {"GOMP_SPINCOUNT": "3000"}
        return {**spin, **os.environ, **threads, **gpu, **variables.our_code()}


@dataclass(frozen=True)
class Job:
    folder: RunFolder
    slot: Slot
    process: subprocess.Popen[bytes] | Adopted
    log_start: int  # where this attempt's part of log.txt begins


def dispatch(
    planned: Sequence[PlannedRun],
    runs: Path,
    workers: int | None = None,
    threads: int | None = None,
    console: Console | None = None,
    gpus: Sequence[str] | None = None,
) -> Outcome:
    """Train the planned runs on this machine and wait for them; finished ones are skipped.

    SIGINT or SIGTERM stops the pool with every run resumable; a second one kills the workers.

    Args:
        runs: the folder of run folders.
        workers: runs at a time, which share GPUs where there are fewer of these; by default one a
            GPU (as many GPUs as ranks), or as many as there are cores and runs.
        threads: CPU threads of a worker; by default the cores are divided.
        console: where to show progress; by default standard output.
        gpus: which to use, as CUDA_VISIBLE_DEVICES names them; by default all.

    Raises:
        UserError: the runs folder cannot be written, or no longer.
    """
    folders = create_runs(runs.resolve(), [(run.slug, run.config) for run in planned])
    outcome = Outcome()
    queue: deque[RunFolder] = deque()
    for run, folder in zip(planned, folders, strict=True):
        try:
            folder.check_config()
            add_tags(folder, run.tags)
            ask(folder, run.requests, run.config)
            settled = is_settled(folder)
            if not settled:
                refresh_resources(folder, run.config)
            running = folder.state(time.time()) is State.running
        except UserError as error:
            print(f"damaged, and left as it is: {error}", file=sys.stderr)
            outcome.failed.append(folder)
            continue
        if settled:
            outcome.already_done.append(folder)
            continue
        # Asking for a run again overrides an earlier cancel, but not one still to take effect.
        if not running:
            folder.clear_cancel()
        queue.append(folder)
    if not queue:
        return outcome
    if all(run.config.resources.device is Device.cpu for run in planned):
        gpus = []
    gpus = visible_gpus() if gpus is None else gpus
    ranks = max(run.config.resources.ranks for run in planned)
    gpus = group_gpus(gpus, ranks)
    slots = make_slots(len(queue), gpus, workers, threads)
    with Display(len(folders), len(outcome.already_done), len(slots), console) as display:
        pool = Pool(queue, slots, display, outcome)
        try:
            with _signals(pool):
                if len(queue) > 1 and ranks == 1:
                    pool.warm_up()  # it imports while the GPUs are made ready for sharing
                with shared_cards(runs_a_gpu(slots), display.say) as shared:
                    pool.shared = shared
                    pool.work()
        except OSError as error:  # e.g. a full disk; the workers have been stopped
            raise UserError(f"{error.filename or runs}: {error.strerror}") from None
    return outcome


@dataclass
class Pool:
    """The runs that wait, those in training here, and those in training elsewhere."""

    queue: deque[RunFolder]
    free: list[Slot]
    display: Display
    outcome: Outcome
    warm: WarmProcess | None = None  # None: every run starts by itself
    shared: Mapping[str, str] = field(default_factory=dict)  # environment of runs that share a GPU
    jobs: list[Job] = field(default_factory=list)
    elsewhere: list[RunFolder] = field(default_factory=list)
    patient: bool = False  # further signals do not kill: a batch system sends several
    asked: int = 0  # how often a signal asked to stop
    passed_on: int = 0  # how many of those the workers were told of

    def warm_up(self) -> None:
        try:
            self.warm = WarmProcess(self.free[0].environment())
        except OSError as error:
            self._do_without(error)

    def work(self) -> None:
        """Until every run ended, or everything stopped after a signal."""
        try:
            while self.queue or self.jobs or self.elsewhere:
                if self.asked > self.passed_on:
                    self._stop()
                self._start()
                self._collect()
                self._watch_elsewhere()
                self.display.refresh()
                time.sleep(POLL_SECONDS)
        finally:  # an error in here must not leave workers behind
            for job in self.jobs:
                job.process.terminate()
            for job in self.jobs:
                job.process.wait()
            if self.warm:
                self.warm.close()

    def on_signal(self, *_: object) -> None:
        # The loop does the rest: a worker that is just being started must hear of it too.
        self.asked = 1 if self.patient else self.asked + 1

    def _stop(self) -> None:
        """First let the workers save a checkpoint; kill them when asked again."""
        self.passed_on = self.asked
        for folder in [*self.queue, *self.elsewhere]:
            self._end(folder, State.interrupted)
        self.queue.clear()
        self.elsewhere.clear()
        for job in self.jobs:
            job.process.send_signal(signal.SIGTERM if self.asked == 1 else signal.SIGKILL)
        if self.jobs and self.asked == 1:
            self.display.say("stopping: runs save their checkpoints; once more kills them")

    def _start(self) -> None:
        while self.queue and self.free and not self.asked and self._may_start():
            folder = self.queue.popleft()
            with self._unless_removed(folder):
                if is_settled(folder):
                    self._end(folder, State.done)
                elif folder.cancel_requested():
                    folder.update_run(state=State.cancelled)
                    self._end(folder, State.cancelled)
                elif folder.state(time.time()) is State.running:
                    self._wait_for(folder)
                else:
                    self._start_on(self.free[0], folder)
                    self.free.pop(0)

    def _start_on(self, slot: Slot, folder: RunFolder) -> None:
        environment = slot.environment() | variables.POOL_PID.holding(os.getpid())
        environment |= self.shared
        self.jobs.append(Job(folder, slot, *self._start_worker(folder, environment)))
        self.display.started(folder)

    def _may_start(self) -> bool:
        """Whether the warm process has imported everything, or there is none."""
        try:
            return self.warm is None or self.warm.is_ready()
        except OSError as error:
            self._do_without(error)
            return True

    def _start_worker(
        self, folder: RunFolder, environment: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes] | Adopted, int]:
        log = folder.path / "log.txt"
        if self.warm:
            try:
                return self.warm.start(folder.path, environment, log)
            except OSError as error:
                folder.path.stat()  # raises if it was removed
                self._do_without(error)
        return start_worker(folder, environment, log)

    def _do_without(self, error: OSError) -> None:
        self.display.say(f"no warm process ({error}): every run imports torch by itself")
        if self.warm:
            self.warm.close()
        self.warm = None

    def _collect(self) -> None:
        for job in list(self.jobs):
            code = job.process.poll()
            if code is not None:
                self.jobs.remove(job)
                self.free.append(job.slot)
                with self._unless_removed(job.folder):
                    self._settle(job, code)

    def _settle(self, job: Job, code: int) -> None:
        folder = job.folder
        folder.path.stat()  # raises if it was removed
        folder.unlock_dead(job.process.pid)
        run = folder.read_run()
        mine = run.pid == job.process.pid
        if folder.result() is not None:
            self._end(folder, State.done)
        elif code == BUSY or (folder.is_locked() and not mine):
            self._wait_for(folder)
        elif code == STOPPED:
            self._end(folder, run.state)
        elif mine and run.state is State.failed:
            self._end(folder, State.failed)
        elif self.asked and code < 0:
            # Killed by us, or told to stop before it could listen.
            folder.update_run(state=State.interrupted)
            self._end(folder, State.interrupted)
        else:
            self._record_death(job, code)
            self._end(folder, State.failed)

    def _record_death(self, job: Job, code: int) -> None:
        folder = job.folder
        died = failure_of_the_dead(folder.path / "log.txt", job.log_start, code, folder.step)
        try:
            folder.fail(died)
        except OSError as error:
            self.display.say(f"{folder.path}: cannot write why it failed: {error.strerror}")

    @contextmanager
    def _unless_removed(self, folder: RunFolder) -> Iterator[None]:
        """A run whose folder somebody removed or damaged has failed, and the others go on."""
        try:
            yield
        except FileNotFoundError:
            if folder.path.is_dir():
                raise
            self.display.say(f"{folder.path}: its folder was removed; submit again for a new one")
            self._end(folder, State.failed)
        except UserError as error:
            self.display.say(f"damaged, and left as it is: {error}")
            self._end(folder, State.failed)

    def _wait_for(self, folder: RunFolder) -> None:
        self.elsewhere.append(folder)
        self.display.started(folder, elsewhere=True)

    def _watch_elsewhere(self) -> None:
        """A run that another process let go of has ended, or is ours to continue."""
        for folder in list(self.elsewhere):
            try:
                state = folder.state(time.time())
            except UserError as error:
                self.display.say(f"damaged, and left as it is: {error}")
                state = State.failed
            if state is State.running:
                continue
            self.elsewhere.remove(folder)
            if state in (State.done, State.failed, State.cancelled):
                self._end(folder, state)
            else:
                self.queue.appendleft(folder)

    def _end(self, folder: RunFolder, state: State) -> None:
        ended: list[RunFolder] = getattr(self.outcome, state)
        ended.append(folder)
        self.display.ended(folder, state)


def is_settled(folder: RunFolder) -> bool:
    """Whether a worker would find nothing to do."""
    return folder.result() is not None and (trains_only() or not evaluation.missing(folder))


def make_slots(
    count: int, gpus: Sequence[str], workers: int | None = None, threads: int | None = None
) -> list[Slot]:
    """Places for `count` runs: one a GPU, or as many as cores; the cores are divided."""
    cores = available_cores()
    number = workers or len(gpus) or min(count, cores)
    share = threads or max(1, cores // number)
    return [Slot(share, gpus[i % len(gpus)] if gpus else None) for i in range(number)]


def runs_a_gpu(slots: Sequence[Slot]) -> int:
    """The most runs that one GPU trains at a time; 1 without GPUs."""
    return max(Counter(slot.gpu for slot in slots if slot.gpu is not None).values(), default=1)


def group_gpus(gpus: Sequence[str], ranks: int) -> list[str]:
    """GPUs together for runs of several ranks, as CUDA_VISIBLE_DEVICES wants them.

    Raises:
        UserError: fewer GPUs than ranks.
    """
    if gpus and len(gpus) < ranks:
        raise UserError(
            f"resources.ranks={ranks}: this machine has {len(gpus)} GPU(s); use fewer ranks, with "
            "resources.accumulate for the same batch"
        )
    starts = range(0, len(gpus) - ranks + 1, ranks)
    return [",".join(gpus[start : start + ranks]) for start in starts]


def start_worker(
    folder: RunFolder, environment: Mapping[str, str], log: Path
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a worker of a run, and where its part of the log begins, to which it appends."""
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "repro.harness.worker", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        return process, start


@contextmanager
def _signals(pool: Pool) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can listen
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, pool.on_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
