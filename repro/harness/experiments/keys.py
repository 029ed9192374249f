"""What an experiment file may say: its keys with their types.

Each check raises `UserError` with one line that begins with `where`, the file and the place in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from repro.errors import UserError, nearest

REQUIRED = object()
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where there is one
Keys = Mapping[str, tuple[type | tuple[type, ...], Any]]  # key: (type, default or REQUIRED)
NUMBER = (int, float)

EXPERIMENT: Keys = {
    "id": (str, REQUIRED),
    "kind": (str, REQUIRED),
    "title": (str, REQUIRED),
    "where": (str, REQUIRED),
    "source": (list, []),
    "source_note": (str, ""),
    "question": (str, REQUIRED),
    "baseline": (dict, {}),
    "at": (dict, {}),
    "variants": (dict, {}),
    "layout": (list, REQUIRED),
    "metrics": (list, REQUIRED),
    "curves": (list, []),
    "rows": (list, REQUIRED),
    "claims": (list, []),
}
COLUMN: Keys = {"key": (str, REQUIRED), "title": (str, REQUIRED)}
METRIC: Keys = {
    "key": (str, REQUIRED),
    "title": (str, REQUIRED),
    "unit": (str, REQUIRED),
    "decimals": (int, REQUIRED),
    "of": (str, ""),
    "variant": (str, ""),
    "minus": (list, []),
    "reading": (NUMBER, 0),
}
VARIANT: Keys = {"title": (str, ""), "overrides": (dict, {}), "at": (dict, {})}
ROW: Keys = {
    "name": (str, REQUIRED),
    "label": (str, REQUIRED),
    "cells": (dict, {}),
    "overrides": (dict, {}),
    "at": (dict, {}),
    "reported": (dict, REQUIRED),
    "reported_curve": ((dict, type(None)), None),
    "source": (list, []),
    "scales": (list, []),
    "reported_only": (str, ""),
    "variants": (dict, {}),
    "of": (dict, {}),
}


def read_yaml(text: str) -> Any:
    """Plain values only; ten times faster than yaml.safe_load where libyaml is there."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506  a safe loader


def check_keys(content: Any, keys: Keys, where: str, open_ended: bool = False) -> dict[str, Any]:
    """The mapping with defaults filled in; `open_ended` lets unknown keys through."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: must be a mapping of {', '.join(keys)}")
    name = content.get("name") or content.get("id") or content.get("key")
    here = f"{where} {name}" if name and isinstance(name, str) and keys is not EXPERIMENT else where
    for key in content:
        if key not in keys and not open_ended:
            raise UserError(
                f"{here}: unknown key '{key}'; nearest valid key: {nearest(str(key), keys)}"
            )
    for key, (kind, default) in keys.items():
        if key not in content:
            if default is REQUIRED:
                raise UserError(f"{here}: the key '{key}' is missing")
        # YAML's `true` would pass for a number, and a bare `no` for a name.
        elif not isinstance(content[key], kind) or isinstance(content[key], bool):
            wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise UserError(f"{here}: {key}: {content[key]!r} must be of type {wanted}")
    return {key: default for key, (_, default) in keys.items()} | content


def check_unique(names: Sequence[str], where: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UserError(f"{where}: '{name}' appears twice; give each one its own name")


def check_reported(
    reported: Mapping[str, Any],
    curve: Mapping[str, Any] | None,
    metrics: Sequence[str],
    where: str,
) -> None:
    """Reported numbers and curves are numbers of metrics that the file lists."""
    for key, value in reported.items():
        _check_metric(key, metrics, f"{where}: reported")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"{where}: reported: {key}: {value!r} must be a number")
    if curve is None:
        return
    if "epoch" not in curve:
        raise UserError(f"{where}: reported_curve: the key 'epoch' is missing")
    for key, values in curve.items():
        if key != "epoch":
            _check_metric(key, metrics, f"{where}: reported_curve")
        if not isinstance(values, list) or len(values) != len(curve["epoch"]):
            raise UserError(f"{where}: reported_curve: {key} must be as long a list as epoch")
        for value in values:
            hidden = value is None and key != "epoch"
            if isinstance(value, bool) or not (hidden or isinstance(value, NUMBER)):
                raise UserError(f"{where}: reported_curve: {key}: {value!r} must be a number")


def _check_metric(key: str, metrics: Sequence[str], where: str) -> None:
    if key not in metrics:
        raise UserError(
            f"{where}: '{key}' is not listed under metrics; nearest valid key: "
            f"{nearest(str(key), metrics)}"
        )
