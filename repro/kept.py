"""Answers that take seconds and never change, kept in the user's cache folder between commands.

Only a cache: a missing, torn or unwritable file costs time and nothing else. Answers are kept under
a digest of the code that gave them, so that a change of it asks anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import repro
from repro.files import replace_text
from repro.hardware import cache_folder

CODE = ("dino/backbones.py", "dino/heads.py", "dino/vit.py", "harness/plan/cost.py")
PACKAGES = ("torch", "timm")


def remembered(key: str, answer: Callable[[], Any]) -> Any:
    """The JSON-ready `answer()`, computed once for this key and this code."""
    known = _read()
    if key not in known:
        known[key] = answer()
        _unsaved.append(key)
    return known[key]


def is_remembered(key: str) -> bool:
    return key in _read()


def save() -> None:
    """Write what was learned since the last call."""
    if not _unsaved:
        return
    known = _read()
    with suppress(OSError):
        path = _file()
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({"code": _code(), "answers": known}))
    _unsaved.clear()


_unsaved: list[str] = []


@cache
def _read() -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(_file().read_text())
        if content["code"] == _code():
            answers: dict[str, Any] = content["answers"]
            return answers
    return {}


@cache
def _code() -> str:
    package = Path(repro.__file__).parent
    digest = hashlib.sha256()
    for name in CODE:
        digest.update((package / name).read_bytes())
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            digest.update(version(name).encode())
    return digest.hexdigest()[:16]


def _file() -> Path:
    return cache_folder() / "costs.json"
