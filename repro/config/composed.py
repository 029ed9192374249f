"""Composed configs kept between commands: Hydra takes a tenth of a second for each, and a command
about all tables needs hundreds.

They are kept under a digest of every file of `experiments/` that composition reads, of the code
that composes and of the environment variables that the files name, so that a change of any asks
Hydra anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repro.config.schema import RunConfig
from repro.files import digest_of
from repro.kept import Answers, digest

CODE = ("config", "decode")
PACKAGES = ("hydra-core", "omegaconf")
_VARIABLE = re.compile(r"oc\.env:\s*['\"]?(\w+)")


def remembered(
    experiments: Path, scale: str, overrides: Mapping[str, Any], compose: Callable[[], RunConfig]
) -> RunConfig:
    """`compose()`, or what it gave before for the same scale, overrides and files."""
    if "model.weights" in overrides:  # a file, whose content may have changed
        return compose()
    key = json.dumps([scale, overrides], sort_keys=True, default=str)
    if named := _VARIABLE.findall(key):
        key += json.dumps({name: os.environ.get(name) for name in named})
    return _answers(_digest(experiments.resolve())).get(key, RunConfig, compose)


@cache
def _digest(experiments: Path) -> str:
    """Read once a command: whoever edits these files starts another one."""
    files = sorted((experiments / "base").rglob("*.yaml"))
    files += sorted((experiments / "scales").glob("*.yaml"))
    named = sorted({name for path in files for name in _VARIABLE.findall(path.read_text())})
    state = digest(files, CODE, PACKAGES)
    if not named:
        return state
    return state + digest_of(json.dumps([os.environ.get(name) for name in named]).encode())


@cache
def _answers(state: str) -> Answers:
    return Answers("composed", state)
