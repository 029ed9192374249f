"""Run folders: atomic files, and the state they tell. Files are the truth; nothing else is asked.

results/runs/<slug>-<id>/
  config.yaml    fully resolved               run.json      state, attempts, pid, host, times
  env.json       versions, hardware, data     metrics.jsonl one line a step or evaluation
  events.jsonl   what happened, append-only   heartbeat     mtime = alive
  checkpoints/   last and previous            log.txt       the worker's output
  lock, lock.N   held by the worker for its whole life (repro/locks.py)
  cancel         a marker: the worker should stop
  failure.json   kind, line, traceback, host, step of the last failure
  result.json    final metrics, written last: it exists = the run is done
  evaluations/   NAME.json of each evaluation of the last checkpoint, NAME.request.json of those
                 that were asked for (evaluations.py)
  features/      test features at each evaluation, with reporting.feature_space (journal.py)
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.config.identity import run_id
from repro.errors import UserError
from repro.files import (
    append_lines,
    digest_of,
    read_object,
    replace_text,
    with_digest,
    write_json,
)  # fmt: skip
from repro.harness.runs.evaluations import RunEvaluation, read_evaluation
from repro.harness.runs.failures import Failure, told_failure, write_failure
from repro.harness.runs.states import OVER, RunInfo, State, change_run, read_run
from repro.lines import append_checked, checked, last_lines, read_checked
from repro.locks import Busy, forget, hold, is_flocked

if TYPE_CHECKING:
    from repro.config.schema import RunConfig

LINES = "lines"  # the key of a result that says how many metric lines there were
GRACE = 60.0  # seconds without a heartbeat after which a run of another machine is lost
MAKING_PATIENCE = 600.0  # seconds to wait for others who make run folders at this moment
_FOLDER_NAME = re.compile(r"(?P<slug>[^.].*)-(?P<id>[0-9a-f]{10})")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. Methods read and write its files and keep nothing in memory."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name.rpartition("-")[2]

    @property
    def slug(self) -> str:
        return self.path.name.rpartition("-")[0]

    def config(self) -> RunConfig:
        """Raises: UserError if config.yaml is missing, no longer fits the schema or was edited."""
        from repro.config.compose import from_plain
        from repro.decode import read_yaml

        file = self.path / "config.yaml"
        if not file.exists():
            raise UserError(f"{file}: missing; remove this folder and submit again")
        try:
            values = read_yaml(file)
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from None
        if not isinstance(values, dict):
            raise UserError(f"{file}: damaged: it describes no run")
        config = from_plain(values, str(file))
        if _FOLDER_NAME.fullmatch(self.path.name) and (described := run_id(config)) != self.id:
            raise UserError(
                f"{file}: edited: it describes the run {described}, its folder is that of "
                f"{self.id}; put back what was there, or remove the folder and submit again"
            )
        label, made_for = config.label, self.told()
        if made_for.scale and label.scale != made_for.scale:  # no part of the identity
            raise UserError(
                f"{file}: edited: label.scale is {label.scale!r}, the run was made for "
                f"{made_for.scale!r}; put that back"
            )
        return config

    def check_config(self) -> None:
        """Raises: UserError if config.yaml is not that of this run, as its bytes tell or it."""
        with suppress(OSError):
            written = self.read_run().config
            if written and written == digest_of((self.path / "config.yaml").read_bytes()):
                return
        self.config()

    def told(self) -> RunInfo:
        """What run.json tells, nothing where it is damaged."""
        try:
            return self.read_run()
        except UserError:
            return RunInfo()

    def is_done(self) -> bool:
        """Whether it has a result, and one that can be read."""
        try:
            return self.result() is not None
        except UserError:
            return False

    def read_run(self) -> RunInfo:
        """Raises: UserError if run.json is damaged."""
        return read_run(self.path / "run.json")

    def update_run(self, **changes: Any) -> None:
        """Change these fields of run.json; what another version wrote beside them stays.

        Of a run that ends the last step is kept, too: so a cut of its metric lines shows.
        """
        if changes.get("state") in OVER:
            changes["last_step"] = self.step
        change_run(self.path / "run.json", changes)

    def event(self, event: str, /, **fields: Any) -> None:
        """Append one line to events.jsonl: {"time": seconds since 1970, "event": ..., fields}."""
        append_lines(self.path / "events.jsonl", [{"time": time.time(), "event": event, **fields}])

    def append_metrics(self, events: list[dict[str, Any]]) -> None:
        """Append the events of `Trainer.run()`, one line each, and sync them to the disk."""
        if events:
            append_checked(self.path / "metrics.jsonl", events)

    def truncate_metrics(self, step: int, evaluation_due: bool = False) -> list[dict[str, Any]]:
        """Drop what is later than `step`, its own evaluation if due again, and what is no line.

        Returns:
            What stays. Where lines were damaged, the file as it was stays as metrics.jsonl.aside.
        """
        file = self.path / "metrics.jsonl"
        found = read_checked(file)
        events = [line for line in found.values if {"kind", "step"} <= line.keys()]
        if found.faults or len(events) < len(found.values):
            file.replace(file.with_name("metrics.jsonl.aside"))
        again = ("eval", step) if evaluation_due else None
        kept = [e for e in events if e["step"] <= step and (e["kind"], e["step"]) != again]
        replace_text(file, "".join(map(checked, kept)))
        return kept

    def metrics(self) -> list[dict[str, Any]]:
        """All metric lines in order, without a last one still being written; or a UserError."""
        file = self.path / "metrics.jsonl"
        found = read_checked(file)
        for number, why in found.faults.items():
            raise UserError(f"{file}: line {number} {why}")
        for number, line in enumerate(found.values, 1):
            if not {"kind", "step"} <= line.keys():
                raise UserError(f"{file}: line {number} is neither a step nor an evaluation")
        written = (self.result() or {}).get(LINES, len(found.values))
        if written != len(found.values):
            raise UserError(f"{file}: {len(found.values)} lines are left of {written}")
        return found.values

    def last_step(self) -> dict[str, Any] | None:
        """The latest `step` line, from the end of the file: a long run's file is large."""
        lines = last_lines(self.path / "metrics.jsonl").values
        return next((line for line in reversed(lines) if line.get("kind") == "step"), None)

    def damaged_metrics(self) -> str:
        """What is wrong with the end of metrics.jsonl, from where `last_step` is."""
        for why in last_lines(self.path / "metrics.jsonl").faults.values():
            return f"metrics.jsonl: a line near its end {why}"
        run, step = self.read_run(), self.step
        if run.state in OVER and step < (run.last_step or 0):
            return f"metrics.jsonl ends at step {step}; by run.json the run was at {run.last_step}"
        return ""

    @property
    def step(self) -> int:
        """How many steps of training have been done and written down."""
        last = self.last_step()
        return int(last["step"]) if last else 0

    def beat(self) -> None:
        (self.path / "heartbeat").touch()

    def heartbeat_age(self, now: float) -> float | None:
        """Seconds since the last heartbeat; None if there never was one."""
        try:
            return now - (self.path / "heartbeat").stat().st_mtime
        except FileNotFoundError:
            return None

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run done. A finished run is never overwritten.

        An earlier attempt's failure.json goes; events.jsonl still tells of it.
        """
        assert self.result() is None, f"{self.path}: this run is already done"
        (self.path / "failure.json").unlink(missing_ok=True)
        self.update_run(state=State.done, ended=time.time())
        write_json(self.path / "result.json", with_digest(result, self.id))

    def fail(self, failure: Failure) -> None:
        write_failure(self.path / "failure.json", failure)
        self.update_run(state=State.failed, ended=time.time())

    def result(self) -> dict[str, Any] | None:
        """Raises: UserError if it is damaged, or of another run."""
        return read_object(self.path / "result.json", self.id)

    def write_environment(self, env: dict[str, Any]) -> None:
        write_json(self.path / "env.json", with_digest(env, self.id))

    def environment(self) -> dict[str, Any]:
        """What the run noted of its code and machine, if anything; or a UserError."""
        return read_object(self.path / "env.json", self.id) or {}

    def failure(self) -> Failure | None:
        """Why it ended badly, if it did."""
        return told_failure(self.path / "failure.json")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run; raises Busy if another live process does."""
        with hold(self.path / "lock", f"{self.path}: another process is training this run"):
            yield

    def is_locked(self) -> bool:
        return is_flocked(self.path / "lock")

    def unlock_dead(self, pid: int) -> None:
        """Let others have the run at once whose worker of this machine has died."""
        forget(self.path / "lock", pid)

    def evaluations(self) -> dict[str, RunEvaluation]:
        """What each finished evaluation left, by its name."""
        files = sorted((self.path / "evaluations").glob("*.json"))
        named = {f.stem: read_evaluation(f, self.id) for f in files if "." not in f.stem}
        return {name: made for name, made in named.items() if made}

    def request_cancel(self) -> None:
        (self.path / "cancel").touch()

    def cancel_requested(self) -> bool:
        return (self.path / "cancel").exists()

    def clear_cancel(self) -> None:
        (self.path / "cancel").unlink(missing_ok=True)

    def state(self, now: float, grace: float = GRACE) -> State:
        """How the run is, from the files alone.

        A worker of this machine that died is `lost` at once, since the kernel has dropped its
        lock; one of another machine, whose locks may not reach us, after `grace` seconds.
        """
        run = self.read_run()
        if (self.path / "result.json").exists():
            return State.done
        if self.is_locked():
            return State.running
        if self.read_run() != run or (self.path / "result.json").exists():
            return self.state(now, grace)  # it started or ended while we looked
        if run.state is State.running and run.host != socket.gethostname():
            beaten = self.heartbeat_age(now)
            signs = [now - run.started] if run.started else []
            signs += [beaten] if beaten is not None else []
            if min(signs, default=grace) < grace:
                return State.running
        if run.state in (State.running, State.done):
            return State.lost
        if run.state in (State.queued, State.interrupted) and self.cancel_requested():
            return State.cancelled
        return run.state


def create_run(runs: Path, slug: str, config: RunConfig) -> RunFolder:
    """The folder of this run, made if there is none; an existing one is returned untouched.

    Raises:
        UserError: the disk is full or the folder is not writable.
    """
    return create_runs(runs, [(slug, config)])[0]


def create_runs(runs: Path, named: Sequence[tuple[str, RunConfig]]) -> list[RunFolder]:
    """The folders of these (slug, config), in order; what exists is returned untouched.

    Each is complete from the moment it is visible: filled under another name, then renamed.

    Raises:
        UserError: the disk is full or the folder is not writable.
    """
    identities = [run_id(config) for _, config in named]
    known = {folder.id: folder for folder in find_runs(runs)}
    try:
        if not set(identities) <= known.keys():
            runs.mkdir(parents=True, exist_ok=True)
            complaint = f"{runs}: another process has been making run folders for minutes"
            # Two submissions at one moment may carry different slugs for one id.
            with hold(runs / ".lock", complaint, MAKING_PATIENCE):
                known = {folder.id: folder for folder in find_runs(runs)}
                for identity, (slug, config) in zip(identities, named, strict=True):
                    if identity not in known:
                        placed = replace(config, paths=config.paths.absolute())
                        known[identity] = _make_run(runs, f"{slug}-{identity}", placed)
    except OSError as error:
        raise UserError(
            f"{runs}: cannot create a run folder: {error.strerror}; "
            "free space, change its permissions, or set REPRO_RESULTS to another folder"
        ) from None
    except Busy as busy:
        raise UserError(f"{busy}; try again") from None
    return [known[identity] for identity in identities]


def refresh_resources(folder: RunFolder, config: RunConfig) -> None:
    """Take over what is no part of a run's identity: resources, folders of data, reporting.

    A run in training keeps what it has.
    """
    if folder.is_locked():
        return
    old = folder.config()
    paths = config.paths.absolute()
    kept = replace(old, resources=config.resources, paths=paths, reporting=config.reporting)
    if kept != old:
        text = config_text(kept)
        replace_text(folder.path / "config.yaml", text)
        folder.update_run(config=digest_of(text.encode()))


def add_tags(folder: RunFolder, tags: Sequence[str]) -> None:
    """To those that it has.

    Raises:
        UserError: run.json is damaged.
    """
    known = folder.read_run().tags if tags else ()
    if not set(tags) <= set(known):
        folder.update_run(tags=tuple(dict.fromkeys((*known, *tags))))


def find_runs(runs: Path) -> list[RunFolder]:
    """All run folders, by name; what else lies there is nobody's business."""
    if not runs.is_dir():
        return []
    with os.scandir(runs) as entries:
        names = [e.name for e in entries if _FOLDER_NAME.fullmatch(e.name) and e.is_dir()]
    return [RunFolder(runs / name) for name in sorted(names)]


def find_run(runs: Path, identity: str) -> RunFolder | None:
    """The folder of the run with this id, whatever its slug."""
    return next((folder for folder in find_runs(runs) if folder.id == identity), None)


def config_text(config: RunConfig) -> str:
    """The content of a config.yaml."""
    from repro.config.compose import to_plain
    from repro.decode import plain_yaml

    return plain_yaml.write(to_plain(config))


def _make_run(runs: Path, name: str, config: RunConfig) -> RunFolder:
    temporary = runs / f".new-{secrets.token_hex(8)}"
    temporary.mkdir()  # as the umask and a group's folder (setgid) say; mkdtemp would not ask them
    try:
        (temporary / "checkpoints").mkdir()
        text = config_text(config)
        replace_text(temporary / "config.yaml", text)
        label = config.label
        RunFolder(temporary).update_run(
            state=State.queued,
            attempts=0,
            config=digest_of(text.encode()),
            created=time.time(),
            seed=config.seed,
            experiment=label.experiment,
            row=label.row,
            scale=label.scale,
        )
        final = temporary.rename(runs / name)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return RunFolder(final)
