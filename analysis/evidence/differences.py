"""In what the configs of runs differ from one another, as dotted keys.

Configs are taken as plain values: also a run that this code does not know can be told apart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from repro.config.identity import ADDED, is_identity
from repro.harness.runs.planned import short_key

Flat = Mapping[str, Any]  # dotted key of a run's identity: plain value
UNSET = "none"
MOST_SAID = 4  # differences of a run that one line names


def flat_identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make a run, of a config.yaml or of a record's config.

    Parts that a method does not use are left out, as they are of the identity; keys that joined
    later have the value of before, also where they are not there.
    """
    flat = _flat(values)
    earlier = {k: v for k, v in ADDED.items() if k.partition(".")[0] in values and k not in flat}
    return flat | {key: _plain(value) for key, value in earlier.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if not is_identity(key):
            continue
        if isinstance(value, Mapping):
            section = cast(Mapping[str, Any], value)
            flat |= _flat(section, f"{key}.") if section.get("used", True) else {}
        else:
            flat[key] = value
    return flat


def differences(one: Flat, other: Flat) -> dict[str, tuple[Any, Any]]:
    """The keys whose values are not the same, with both; None where a key is not there."""
    keys = dict.fromkeys((*one, *other))
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def set_apart(configs: Sequence[Flat]) -> list[dict[str, Any]]:
    """Of each config the settings that tell it from the others, the seed left out.

    A value that more than half of them have goes without saying.
    """
    keys = [k for k in dict.fromkeys(k for config in configs for k in config) if k != "seed"]
    apart: list[dict[str, Any]] = [{} for _ in configs]
    for key in keys:
        values = [json.dumps(config.get(key)) for config in configs]
        (common, times), *others = Counter(values).most_common()
        if not others:
            continue
        usual = common if 2 * times > len(values) else None
        for own, config, value in zip(apart, configs, values, strict=True):
            if value != usual:
                own[key] = config.get(key)
    return apart


def in_words(settings: Mapping[str, Any], most: int = MOST_SAID) -> str:
    """Settings on one line: "momentum=0.9, lr=0.001 and 3 more"."""
    said = [f"{short_key(key)}={value_text(value)}" for key, value in settings.items()]
    more = f" and {len(said) - most} more" if len(said) > most else ""
    return ", ".join(said[:most]) + more


def value_text(value: Any) -> str:
    if value is None:
        return UNSET
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return getattr(value, "name", value)
