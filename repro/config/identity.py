"""Which runs are the same run: canonical config, run id, slug.

The id is a hash of everything that can change a number. Sections derived from `NotIdentity` are
left out by their type, so a new path or report setting cannot change an id by accident, and a new
scientific key cannot be forgotten. A `Part` that a method does not use is left out, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, cast, get_type_hints

from repro.config.schema import (
    Activation,
    Interpolation,
    LossKind,
    NotIdentity,
    Operation,
    OptimiserName,
    Part,
    RunConfig,
    StopOn,
)

SCHEMA = 1

# Dotted keys that joined the config after records had been published, each with the value that
# reproduces the behaviour before it. At that value a key is left out, so that old ids stay valid.
ADDED: Mapping[str, Any] = {
    "data.eval_interpolation": Interpolation.bicubic,
    "data.reduced_decoding": False,
    "head.activation": Activation.gelu,
    "head.l2_bottleneck": True,
    "target.operation": Operation.softmax,
    "target.sinkhorn_iterations": 3,
    "loss.kind": LossKind.cross_entropy,
    "model.weights": "",
    "optim.name": OptimiserName.adamw,
    "train.sync_batch_norm": True,
    "train.stop_on": StopOn.nothing,
    "train.stop_after": 0.0,
}


# Sections that are no part of a run's identity.
_BESIDE = frozenset(
    name
    for name, kind in get_type_hints(RunConfig).items()
    if isinstance(kind, type) and issubclass(kind, NotIdentity)
)


def canonical(config: RunConfig) -> dict[str, Any]:
    """The part of the config that makes a run, as nested dicts of plain JSON values.

    Enums by name, tuples as lists, whole floats as integers (1.0 and 1 are one value).
    """
    return cast(dict[str, Any], _plain(config, ""))


def run_id(config: RunConfig) -> str:
    """Ten hexadecimal digits of the sha256 of the canonical config and the schema version."""
    return run_ids(config, [config.seed])[0]


def run_ids(config: RunConfig, seeds: Iterable[int]) -> list[str]:
    """`run_id` of this config with each of these seeds: a grid of thousands is read once."""
    content = {"schema": SCHEMA, "config": canonical(config) | {"seed": None}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    before, after = text.split('"seed":null')
    return [
        hashlib.sha256(f'{before}"seed":{seed}{after}'.encode()).hexdigest()[:10] for seed in seeds
    ]


def is_identity(key: str) -> bool:
    """Whether a dotted key is of a section that makes a run, not one that says where or how."""
    return key.partition(".")[0] not in _BESIDE


def slug(config: RunConfig, experiment: str, row: str) -> str:
    """A name for people, safe in a path, e.g. "F7-both-laptop-s0"; never used to find a run."""
    parts = [part for part in (experiment, row, config.label.scale) if part]
    safe = [re.sub(r"[^A-Za-z0-9_.]+", "_", part) for part in parts]
    return "-".join([*safe, f"s{config.seed}"])


def _plain(value: Any, key: str) -> Any:
    if is_dataclass(value):
        section = {}
        for item in fields(value):
            child = getattr(value, item.name)
            if isinstance(child, NotIdentity) or (isinstance(child, Part) and not child.used):
                continue
            child_key = f"{key}.{item.name}" if key else item.name
            plain = _plain(child, child_key)
            if child_key in ADDED and plain == _plain(ADDED[child_key], child_key):
                continue
            section[item.name] = plain
        return section
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
