"""Composed configs kept between commands: Hydra takes a tenth of a second for each, and a command
about all tables needs hundreds.

Only a cache: a missing, torn or unwritable file costs time and nothing else. It is kept under a
digest of every file of `experiments/` that composition reads and of the code that composes, so that
a change of either asks Hydra anew.
"""

from __future__ import annotations

import atexit
import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

import repro
from repro.config.schema import RunConfig
from repro.files import replace_text
from repro.hardware import cache_folder

CODE = ("config/compose.py", "config/composed.py", "config/schema.py", "config/checks.py")
PACKAGES = ("hydra-core", "omegaconf")
KEPT = 4  # files, of as many states of experiments/


def remembered(
    experiments: Path, scale: str, overrides: Mapping[str, Any], compose: Callable[[], RunConfig]
) -> RunConfig:
    """`compose()`, or what it gave before for the same scale, overrides and files."""
    digest = _digest(experiments.resolve())
    known = _read(digest)
    key = json.dumps([scale, overrides], sort_keys=True, default=str)
    if key not in known:
        # Through the file's format, so that what is kept and what is new have the same types.
        known[key] = msgspec.convert(msgspec.to_builtins(compose()), RunConfig)
        _learned.setdefault(digest, {})[key] = known[key]
    return copy.deepcopy(known[key])


@cache
def _digest(experiments: Path) -> str:
    """Read once a command: whoever edits these files starts another one."""
    digest = hashlib.sha256()
    package = Path(repro.__file__).parent
    files = [*sorted((experiments / "base").rglob("*.yaml"))]
    files += sorted((experiments / "scales").glob("*.yaml"))
    for path in [*files, *(package / name for name in CODE)]:
        digest.update(f"{path.parent.name}/{path.name}\0".encode())
        digest.update(path.read_bytes())
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            digest.update(version(name).encode())
    return digest.hexdigest()[:16]


@cache
def _read(digest: str) -> dict[str, RunConfig]:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(_file(digest).read_bytes(), type=dict[str, RunConfig])
    return {}


_learned: dict[str, dict[str, RunConfig]] = {}


@atexit.register
def _save() -> None:
    """Join what this command learned to what others may have written meanwhile."""
    for digest, learned in _learned.items():
        with suppress(OSError):
            path = _file(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            _read.cache_clear()
            replace_text(path, msgspec.json.encode(_read(digest) | learned).decode())
            for old in _oldest(path.parent):
                old.unlink()


def _oldest(folder: Path) -> list[Path]:
    files = sorted(folder.glob("composed-*.json"), key=lambda path: path.stat().st_mtime)
    return files[:-KEPT]


def _file(digest: str) -> Path:
    return cache_folder() / f"composed-{digest}.json"
