"""Settings, versions and machines of runs as people write them."""

from __future__ import annotations

from enum import Enum
from typing import Any

from repro.harness.runs.environment import Environment, Hardware


def plain(value: Any) -> str:
    """A value of a config: 0.4 to 1, true, momentum."""
    if isinstance(value, list | tuple):
        return " to ".join(f"{v:g}" for v in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return value.name
    return f"{value:g}" if isinstance(value, float) else str(value)


def code_of(env: Environment) -> str:
    """The version that a run or an evaluation was made by."""
    version = (env.git_sha or "unknown")[:10]
    return f"{version} with uncommitted changes" if env.dirty else version


def hardware_of(hardware: Hardware | None) -> str:
    """The machine of a run; what a record does not name is left out."""
    if hardware is None:
        return "not recorded"
    if hardware.gpu:
        return hardware.gpu
    parts = [hardware.cpu] if hardware.cpu else []
    return ", ".join([*parts, f"{hardware.threads} of {hardware.cores} cores"])
