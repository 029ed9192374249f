"""The keys of the config as files and people write them: dotted, with the type of each."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from repro.config.schema import RunConfig

GROUPS = ("data", "model", "views", "method", "preset", "crops")  # folders of experiments/base


@cache
def kinds(node: type = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Every settable key, e.g. `teacher.kind`, with the type of its field, without its bounds."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(node, include_extras=True).items():
        plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if is_dataclass(plain):
            found |= kinds(cast(type, plain), f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = plain
    return found


def dotted_keys() -> list[str]:
    """Every settable key of the config, in declaration order."""
    return list(kinds())
