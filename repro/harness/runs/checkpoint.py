"""Checkpoints: the last and the one before it, written so that a kill or a full disk loses neither.

The authors' code writes over the live file, so a kill during the write loses the run; here a new
file is completed and synchronised first, and only then takes the last one's place.

Reading has three answers. *Absent*: the run begins. *Unreadable* (a disk, a permission, too little
memory): nobody knows what is in there, so the attempt ends with the cause and touches nothing.
*Damaged*: what is in there is not what was written, or not of this run; the one before is taken,
and nothing begins again by itself.

A checkpoint is a zip of one record a tensor, each with the CRC-32 of its content, which torch
writes and does not check: a flipped bit would be loaded as another weight. Here it is checked, in
those of earlier versions too.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType
from typing import IO, Any, cast

import torch

from repro.decode.packed import damaged_entry
from repro.errors import UserError
from repro.harness.runs.failures import is_out_of_memory

LAST, PREVIOUS = "last.pt", "previous.pt"
SCHEMA = 1
NONE_UNFIT: Mapping[Path, str] = MappingProxyType({})
OWNER = "owner"  # the key of what says whose a checkpoint is: {schema, run, data}


class Damaged(Exception):
    """The content of a checkpoint cannot be what was written, or is not of this run."""


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that serves, and why newer ones do not."""

    path: Path | None = None
    state: dict[str, Any] | None = None
    damaged: dict[Path, str] = field(default_factory=dict)

    @property
    def faults(self) -> str:
        return "; ".join(f"{path.name}: {why}" for path, why in self.damaged.items())


def owner(run: str, data: dict[str, str]) -> dict[str, Any]:
    """What a checkpoint says of itself: its run's id, and the digests of the images."""
    return {OWNER: {"schema": SCHEMA, "run": run, "data": data}}


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Write `state` as the last checkpoint; what was last becomes previous.

    Raises:
        OSError: e.g. a full disk; both earlier checkpoints are then untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "unfinished.pt"
    try:
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        # torch's zip writer hides a full disk behind a RuntimeError about its own position.
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    last = folder / LAST
    if last.exists():
        last.replace(folder / PREVIOUS)
    unfinished.replace(last)
    return last


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that serves; None if there is none at all.

    Raises:
        UserError: there are some, and none serves or can be read.
    """
    found = find(folder)
    if found.state is None and found.damaged:
        raise UserError(f"{folder}: no checkpoint serves: {found.faults}")
    return found.state


def find(
    folder: Path,
    run: str | None = None,
    needed: frozenset[str] = frozenset(),
    unfit: Mapping[Path, str] = NONE_UNFIT,
) -> Found:
    """The newest checkpoint that serves, if any; changes nothing.

    Args:
        run: whose it has to be, where it says so.
        needed: keys without which it is of no use.
        unfit: which were tried and do not serve, and why.

    Raises:
        UserError: one cannot be read, which says nothing about its content.
        MemoryError, RuntimeError: there is not enough memory to read it.
    """
    damaged: dict[Path, str] = {}
    for path in (folder / LAST, folder / PREVIOUS):
        if path in unfit:
            damaged[path] = unfit[path]
            continue
        try:
            with path.open("rb") as file:
                state = _read(file)
            _check_owner(state, run, needed)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(
                f"{path}: cannot be read: {error.strerror or error}; "
                "nothing was changed, repro retry goes on from it once it can be read"
            ) from error
        except Damaged as why:
            damaged[path] = str(why)
        else:
            return Found(path, state, damaged)
    return Found(damaged=damaged)


def set_aside(path: Path) -> Path:
    """Give a checkpoint a name under which no run takes it; the new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.aside{number}")).exists():
        number += 1
    return path.rename(aside)


def set_all_aside(folder: Path) -> list[Path]:
    """So that the run begins again; their new names."""
    return [set_aside(path) for name in (LAST, PREVIOUS) if (path := folder / name).exists()]


def _read(file: IO[bytes]) -> dict[str, Any]:
    """Raises: Damaged; OSError; what `is_out_of_memory` knows."""
    try:
        with zipfile.ZipFile(file) as records:
            if bad := damaged_entry(records):
                raise Damaged(f"its content was changed or lost ({bad})")
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (Damaged, MemoryError):
        raise
    # A flipped bit in a header sends the reader anywhere.
    except (
        *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError),
        *(UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, OverflowError),
    ) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        # EINVAL: a header sent the reader to before the beginning.
        if isinstance(cause, OSError) and cause.errno != errno.EINVAL:
            raise cause from None
        if is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or [""])[0]
        raise Damaged(f"is no whole checkpoint ({first[:100]})") from error
    if not isinstance(state, dict):
        raise Damaged("holds no state of a run")
    return cast(dict[str, Any], state)


def _check_owner(state: dict[str, Any], run: str | None, needed: frozenset[str]) -> None:
    """Raises: Damaged: of another run, of a later version, or without what is needed."""
    mine = state.get(OWNER, {})
    if mine.get("schema", SCHEMA) > SCHEMA:
        raise Damaged("was made by a later version of this program")
    if run is not None and mine.get("run", run) != run:
        raise Damaged(f"is of the run {mine['run']}")
    if lacking := sorted(needed - state.keys()):
        raise Damaged(f"holds no state of a run: {lacking[0]} is missing")
