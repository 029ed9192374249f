"""What an experiment file may say: its keys with their types, and the shape of every claim.

Each check raises `UserError` with one line that begins with `where`, the file and the place in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
CLAIM: Keys = {
    "id": (str, REQUIRED),
    "statement": (str, REQUIRED),
    "portability": (str, REQUIRED),
    "kind": (str, REQUIRED),
    "where": (str, ""),
    "on_paper": (str, "holds"),
    "note": (str, ""),
}
PORTABILITIES = ("M", "L", "S", "I")
ON_PAPER = ("holds", "overclaim", "not numeric")

BOUNDS: Keys = {"above": (NUMBER, None), "below": (NUMBER, None)}

# What each kind of claim needs; `analysis/verdicts/claims.py` defines what it means.
CLAIM_BODIES: Mapping[str, Keys] = {
    "collapse": {"rows": (list, REQUIRED), "form": (str, REQUIRED)},
    "healthy": {"rows": (list, REQUIRED)},
    "decomposition": {"rows": (list, REQUIRED)},
    "fails": {"rows": (list, REQUIRED)},
    "works": {"rows": (list, REQUIRED)},
    "rise_and_fall": {"rows": (list, REQUIRED)},
    "curve_above": {
        "rows": (list, REQUIRED),
        "above": (str, REQUIRED),
        "below": (str, REQUIRED),
        "after": (NUMBER, REQUIRED),
    },
    "greater": {"better": (str, REQUIRED), "worse": (str, REQUIRED)},
    "no_worse": {"better": (str, REQUIRED), "worse": (str, REQUIRED), "margin": (NUMBER, REQUIRED)},
    "close": {"a": (str, REQUIRED), "b": (str, REQUIRED), "margin": (NUMBER, REQUIRED)},
    "best": {"best": (str, REQUIRED), "among": (list, REQUIRED)},
    "contrast": {"terms": (dict, REQUIRED), **BOUNDS},
    "ratio": {"over": (str, REQUIRED), "under": (str, REQUIRED), **BOUNDS},
    "smaller_gap": {
        "high": (str, REQUIRED),
        "low": (str, REQUIRED),
        "rows": (list, REQUIRED),
        "than": (list, REQUIRED),
    },
    "tokens": {"rows": (list, REQUIRED)},
    "peak_and_decline": {"rows": (list, REQUIRED), "curve": (str, REQUIRED)},
    "curve_crosses": {
        "first": (str, REQUIRED),
        "second": (str, REQUIRED),
        "curve": (str, REQUIRED),
    },
    "order": {"order": (list, REQUIRED)},
    "all_of": {"claims": (list, REQUIRED)},
}
FORMS = ("one_dimension", "uniform")


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


def check_claim_body(kind: str, body: Mapping[str, Any], where: str) -> None:
    """The kind exists and has exactly what it needs; every address can be one."""
    if kind not in CLAIM_BODIES:
        raise UserError(f"{where}: unknown kind '{kind}'; nearest: {nearest(kind, CLAIM_BODIES)}")
    check_keys(dict(body), {**CLAIM_BODIES[kind], "margin_why": (str, "")}, where)
    if kind == "collapse" and body["form"] not in FORMS:
        raise UserError(f"{where}: form '{body['form']}' must be {' or '.join(FORMS)}")
    if kind == "all_of":
        for part in body["claims"]:
            values = check_keys(part, {"kind": (str, REQUIRED)}, where, open_ended=True)
            check_claim_body(values.pop("kind"), values, where)
    if kind in ("contrast", "ratio") and "above" not in body and "below" not in body:
        raise UserError(f"{where}: {kind} needs a bound: above, below or both")
    for address, is_cell in addresses(kind, body):
        example = "T7.r1.knn" if is_cell else "T7.r1"
        # Row names may hold dots, experiment and metric names may not.
        if not isinstance(address, str) or address.count(".") < example.count("."):
            raise UserError(f"{where}: '{address}' is not an address such as {example}")


def addresses(kind: str, body: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """All rows (`T7.r1`, False) and cells (`T7.r1.knn`, True) that a claim names."""
    if kind == "all_of":
        for part in body["claims"]:
            yield from addresses(part["kind"], part)
        return
    rows = [*body.get("rows", []), *body.get("than", [])]
    rows += [body[key] for key in ("first", "second") if key in body]
    metrics = [body[key] for key in ("above", "below", "high", "low", "curve") if key in body]
    for row in rows:
        yield row, False
        yield from ((f"{row}.{metric}", True) for metric in metrics)
    cells = [
        body[key] for key in ("better", "worse", "a", "b", "best", "over", "under") if key in body
    ]
    for cell in [*cells, *body.get("among", []), *body.get("order", []), *body.get("terms", {})]:
        yield cell, True


def _check_metric(key: str, metrics: Sequence[str], where: str) -> None:
    if key not in metrics:
        raise UserError(
            f"{where}: '{key}' is not listed under metrics; nearest valid key: "
            f"{nearest(str(key), metrics)}"
        )
