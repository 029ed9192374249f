"""Checkpoints: the last and the one before it, written so that a kill or a full disk loses neither.

The authors' code writes over the live file, so a kill during the write loses the run; here a new
file is completed and synchronised first, and only then takes the last one's place.
"""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch

LAST, PREVIOUS = "last.pt", "previous.pt"


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
    """The newest readable checkpoint, or None; an unreadable last one gives way to the previous."""
    newest = load_with_path(folder)
    return newest and newest[1]


def load_with_path(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """`load`, and the file that was readable."""
    for name in (LAST, PREVIOUS):
        path = folder / name
        if path.exists():
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnpicklingError):
                continue
            return path, cast(dict[str, Any], state)
    return None
