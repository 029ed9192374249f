"""How far the config of a run is from the paper's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

Distance = Mapping[str, tuple[Any, Any]]  # dotted key: (ours, the paper's)


def protocol_distance(ours: Mapping[str, Any], paper: Mapping[str, Any]) -> Distance:
    """The dotted identity keys in which two canonical configs differ.

    The seed is left out: the paper names none.
    """
    a, b = _flat(ours), _flat(paper)
    keys = [k for k in [*b, *(k for k in a if k not in b)] if k != "seed"]
    return {k: (a.get(k), b.get(k)) for k in keys if a.get(k) != b.get(k)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
