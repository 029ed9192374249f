"""Composed configs kept between commands: Hydra takes a tenth of a second for each, and a command
about all tables needs hundreds.

They are kept under a digest of every file of `experiments/` that composition reads and of the code
that composes, so that a change of either asks Hydra anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repro.config.schema import RunConfig
from repro.kept import Answers, digest

CODE = ("config", "decode")
PACKAGES = ("hydra-core", "omegaconf")


def remembered(
    experiments: Path, scale: str, overrides: Mapping[str, Any], compose: Callable[[], RunConfig]
) -> RunConfig:
    """`compose()`, or what it gave before for the same scale, overrides and files."""
    key = json.dumps([scale, overrides], sort_keys=True, default=str)
    return _answers(_digest(experiments.resolve())).get(key, RunConfig, compose)


@cache
def _digest(experiments: Path) -> str:
    """Read once a command: whoever edits these files starts another one."""
    files = sorted((experiments / "base").rglob("*.yaml"))
    files += sorted((experiments / "scales").glob("*.yaml"))
    return digest(files, CODE, PACKAGES)


@cache
def _answers(state: str) -> Answers:
    return Answers("composed", state)
