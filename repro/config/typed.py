"""What people type for a key of the config, read by the type of its field.

Where the field is text, every character stays what it was: 010, 1:30, on, 1e5, `a #b`, @x. Lists
and mappings are YAML (`views.global_scale=[0.25, 1]`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_origin

from repro.config.keys import kinds
from repro.decode import plain_yaml
from repro.errors import UserError

SWITCH = {"true": True, "false": False}


def holds_names(key: str) -> bool:
    """Whether this key is a mapping whose own keys are free, e.g. benchmarks by name."""
    return get_origin(kinds().get(key)) is dict


def parse_assignments(words: list[str]) -> dict[str, Any]:
    """Command-line overrides `key=value` as a mapping; each value by the type of its key.

    Raises:
        UserError: a word without `=`, a list or mapping that is no YAML.
    """
    overrides = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UserError(f"'{word}' is not an override: write key=value, e.g. train.epochs=10")
        overrides[key] = _value(key, text)
    return overrides


def check_text(key: str, value: Any, where: str) -> None:
    """That a file puts text where the field is text: a number there would be written otherwise.

    Raises:
        UserError: it is no text, or the mark of a missing value.
    """
    if value == "???":
        raise UserError(f"{where}{key}=???: that marks a missing value; write one")
    if kinds().get(key) is str and not isinstance(value, str):
        raise UserError(f"{where}{key}={value}: must be text; put it in quotes")


def _value(key: str, text: str) -> Any:
    """What cannot be of the field's type stays text, and is refused when it is composed."""
    kind = kinds().get(key)
    if kind is bool:
        return SWITCH.get(text.lower(), text)
    if kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    elif get_origin(kind) in (tuple, list, dict):
        return plain_yaml.read(text, f"{key}={text}")
    elif len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
