"""How a run is, and how its evaluation is, in one word each; and what its run.json tells."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from repro.errors import UserError
from repro.files import digest_of, read_object, write_json


class State(StrEnum):
    """Of a run, from its files alone (`RunFolder.state`) or with what SLURM adds (`overview`)."""

    queued = "queued"
    running = "running"
    interrupted = "interrupted"  # stopped with a checkpoint; the next start goes on from there
    cancelled = "cancelled"
    failed = "failed"
    lost = "lost"  # neither alive nor ended by itself
    done = "done"
    damaged = "damaged"  # a file of it cannot be read, or is not what was written


class EvaluationState(StrEnum):
    """Of the evaluations of a finished run."""

    none = ""  # not done yet, or nothing to evaluate
    waiting = "waiting"
    running = "running"
    failed = "failed"
    missing = "missing"
    done = "done"


LIVE = (State.queued, State.running)
LATER = ("tags", "last_step")  # fields that runs of earlier versions lack
NOTHING: tuple[object, ...] = (None, (), [])  # values with which such a field is not written
ENDED = (State.failed, State.cancelled, State.interrupted)  # by themselves, without a result
OVER = (*ENDED, State.done)


class RunInfo(msgspec.Struct, frozen=True):
    """The content of run.json. Times are seconds since 1970."""

    state: State = State.queued  # as last written down; `RunFolder.state` tells how it is now
    attempts: int = 0
    experiment: str = ""
    row: str = ""
    scale: str = ""
    seed: int = 0
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    total_steps: int | None = None
    pid: int | None = None
    host: str | None = None
    job: str | None = None  # of SLURM, "12" or "12_3"
    config: str = ""  # digest of config.yaml as it was last written
    check: str = ""  # digest of the fields above, and of none that joins later
    tags: tuple[str, ...] = ()  # words of people's own; missing where there are none
    last_step: int | None = None  # of metrics.jsonl when the run ended

    def checked(self) -> dict[str, Any]:
        """As it is written."""
        fields = msgspec.to_builtins(self)
        later = {name: value for name in LATER if (value := fields.pop(name)) not in NOTHING}
        del fields["check"]
        return {**fields, "check": digest_of(json.dumps(fields).encode()), **later}


def read_run(file: Path) -> RunInfo:
    """What a run.json tells.

    Raises:
        UserError: it is damaged.
    """
    try:
        info = msgspec.convert(read_object(file) or {}, RunInfo)
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: {error}") from None
    if info.check not in ("", info.checked()["check"]):
        raise UserError(f"{file}: damaged: not what was written, by its check")
    return info


def change_run(file: Path, changes: dict[str, Any]) -> None:
    """Change fields of a run.json; what another version wrote beside them stays."""
    unknown = changes.keys() - set(RunInfo.__struct_fields__)
    assert not unknown, f"run.json has no field {sorted(unknown)}"
    fields = msgspec.to_builtins(read_run(file)) | msgspec.to_builtins(changes)
    info = msgspec.convert(fields, RunInfo)  # its digest is of what will be read
    write_json(file, (read_object(file) or {}) | info.checked())
