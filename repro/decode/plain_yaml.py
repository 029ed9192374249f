"""YAML as people mean it: plain values by the core schema of YAML 1.2, and nothing that surprises.

YAML 1.1, which PyYAML speaks, reads 010 as 8, 12:30 as 750 and `on` as true, takes the last of two
equal keys, makes objects that tags name, and lets ten lines of aliases become gigabytes. Here what
is no number stays text, and the rest is refused. Values are built from libyaml's events, so that no
depth of nesting can use up the stack.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from repro.errors import UserError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where there is one
DEPTH = 50  # of lists and mappings in each other
LARGEST = 100_000  # values, with all that aliases repeat
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[-+]?(\.\d+|(0|[1-9]\d*)(\.\d*)?)([eE][-+]?\d+)?")
_NOT_FINITE = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
DIGITS = 18  # of a whole number: what 64 bits hold
_ABSENT = object()


class _Refused(Exception):
    """What is wrong, at the line of the event that is being read."""


@dataclass
class _Open:
    """A list or mapping whose end has not been read."""

    value: list[Any] | dict[Any, Any]
    anchor: str | None
    key: Any = _ABSENT
    size: int = 1


def read(text: str, where: str) -> Any:
    """The value of one YAML document.

    Raises:
        UserError: one line that begins with `where`.
    """
    line = 1
    try:
        builder = _Builder()
        for event in _events(text):
            line = event.start_mark.line + 1
            builder.take(event)
    except _Refused as why:
        raise UserError(f"{where}: line {line}: {why}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    return builder.document


def write(value: Any) -> str:
    """A document that `read` gives back; keys stay in their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False))


def write_inline(value: list[Any] | dict[str, Any]) -> str:
    """The same on one line: {key: teacher.momentum, values: [0.9, 0.99]}."""
    wide = 2**31 - 1
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=wide, sort_keys=False)
    return str(text).rstrip("\n")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Puts the text 1e5 in quotes, too, which YAML 1.1 does not take for a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("+-.0123456789"))


def _events(text: str) -> Iterator[Any]:
    return iter(yaml.parse(text, Loader=_LOADER))


class _Builder:
    """Lists, mappings and values from the events of a document."""

    def __init__(self) -> None:
        self.document: Any = None
        self.documents = self.size = 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _Refused("a second document begins; one file holds one")
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _Refused(f"*{event.anchor} needs an &{event.anchor} that ends before it")
            self._add(*self.anchors[event.anchor])
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self.open.pop()
            value = _merged(closed.value) if isinstance(closed.value, dict) else closed.value
            self._keep(value, closed.size, closed.anchor)
        elif isinstance(event, yaml.NodeEvent):
            self._begin(event)

    def _begin(self, event: Any) -> None:
        if event.tag is not None:
            raise _Refused(f"the tag {event.tag} names a type; only plain values are read")
        if isinstance(event, yaml.ScalarEvent):
            value = _resolved(event.value) if event.implicit[0] else event.value
            self._keep(value, 1, event.anchor)
            return
        if len(self.open) == DEPTH:
            raise _Refused(f"more than {DEPTH} lists and mappings in each other")
        empty: list[Any] | dict[Any, Any] = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self.open.append(_Open(empty, event.anchor))

    def _keep(self, value: Any, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = value, size
        self._add(value, size)

    def _add(self, value: Any, size: int) -> None:
        """Into the list or mapping that is open."""
        if not self.open:
            self.document = value
            return
        into = self.open[-1]
        into.size += size
        if into.size > LARGEST:
            raise _Refused(f"more than {LARGEST:,} values")
        if isinstance(into.value, list):
            into.value.append(value)
        elif into.key is not _ABSENT:
            into.value[into.key] = value
            into.key = _ABSENT
        elif isinstance(value, list | dict):
            raise _Refused("a key must be text, not a list or a mapping")
        elif value in into.value:
            raise _Refused(f"the key '{value}' stands twice in one mapping")
        else:
            into.key = value


def _merged(mapping: dict[Any, Any]) -> dict[Any, Any]:
    """With what `<<` names below its own keys, as YAML 1.1 has it."""
    if "<<" not in mapping:
        return mapping
    named = mapping.pop("<<")
    merged: dict[Any, Any] = {}
    for one in reversed(named if isinstance(named, list) else [named]):
        if not isinstance(one, dict):
            raise _Refused("<< must name a mapping, or a list of them")
        merged |= one
    return merged | mapping


def _resolved(text: str) -> Any:
    """A word without quotes: empty, true or false, a number, or text."""
    if text.lower() in _WORDS and text in (text.lower(), text.upper(), text.capitalize()):
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        if len(text.lstrip("+-")) > DIGITS:
            raise _Refused(f"a whole number of more than {DIGITS} digits; put it in quotes as text")
        return int(text)
    if _NOT_FINITE.fullmatch(text):
        raise _Refused(f"{text} is no finite number")
    if _NUMBER.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise _Refused(f"{text} is too large a number")
        return number
    return text
