"""Plain values, as YAML holds them, into types: what a file may say is what its struct declares.

msgspec decodes and refuses. Its first complaint names the place by positions (`$.rows[3]`) and no
remedy, so here the value is walked down beside its type: every mistake has the place by names
(`row r4: reported`), the value, and the nearest key or choice.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from repro.decode import plain_yaml
from repro.errors import UserError, nearest

T = TypeVar("T")
_NAMES = ("name", "id", "key", "item", "what")  # keys by which an item of a list is called
_NOUNS = {
    "array": "a list",
    "object": "a mapping",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "empty",
}
_BOUNDS = {">=": "at least", ">": "greater than", "<=": "at most", "<": "less than"}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a file: keys that it does not declare are refused."""


@dataclass(frozen=True)
class Mistake:
    """Why a value is not of its type: where in it, the value if it is to blame, and the reason."""

    path: tuple[str, ...]
    value: str
    reason: str

    def __str__(self) -> str:
        return ": ".join([*self.path, f"{self.value} {self.reason}".strip()])


def read_yaml(path: Path) -> Any:
    """Plain values only, as `plain_yaml` reads them.

    Raises:
        UserError: no such file, or not YAML.
    """
    try:
        return plain_yaml.read(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: damaged: not UTF-8 ({error.reason})") from None


def decode(content: Any, kind: type[T], where: str, beside: Iterable[str] = (), **added: Any) -> T:
    """The content as `kind`; `added` are fields that come from elsewhere than the file.

    `beside` are keys that were taken out of the content before, for the nearest to an unknown one.

    Raises:
        UserError: the first mistake, after `where`.
    """
    if isinstance(content, dict):
        for key in added.keys() & content.keys():
            raise UserError(f"{where}: unknown key '{key}'")
        content = content | added
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError:
        raise UserError(f"{where}: {next(mistakes(content, kind, beside=beside))}") from None


def mistakes(
    value: Any, kind: Any, path: tuple[str, ...] = (), beside: Iterable[str] = ()
) -> Iterator[Mistake]:
    """Everything in plain values that keeps them from being of a type; nothing where they are."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        complaint = str(error)
    else:
        return
    one = _chosen(value, kind)
    own = [Mistake(path, "", reason) for reason in _wrong_keys(value, one, beside)]
    inner = [
        mistake
        for label, child, child_kind in _children(value, one)
        for mistake in mistakes(child, child_kind, _below(path, label, child))
    ]
    yield from [*own, *inner] or [Mistake(path, *_reason(complaint, value, one))]


def choice(word: str, valid: Iterable[str]) -> str:
    """Why a word is refused where one of some is needed."""
    return f"is not one of {', '.join(valid)}; nearest: {nearest(word, valid)}"


def check_among(words: Iterable[str], valid: Sequence[str], where: str) -> None:
    """Raises: UserError for the first word that is not valid, with the nearest that is."""
    for word in words:
        if word not in valid:
            raise UserError(f"{where}: '{word}' {choice(str(word), valid)}")


def check_unique(names: Sequence[str], where: str) -> None:
    """Raises: UserError for the first name that was there before."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UserError(f"{where}: '{name}' appears twice; give each one its own name")


def _chosen(value: Any, kind: Any) -> Any:
    """The type without its bounds and without `None`; of tagged structs, the one that is meant."""
    if get_origin(kind) is Annotated:
        return _chosen(value, get_args(kind)[0])
    if get_origin(kind) not in (Union, UnionType):
        return kind
    options = [option for option in get_args(kind) if option is not NoneType]
    if len(options) == 1:
        return _chosen(value, options[0])
    if isinstance(value, Mapping):
        for option in options:
            config = getattr(option, "__struct_config__", None)
            if config and config.tag == value.get(config.tag_field):
                return option
    return kind


def _wrong_keys(value: Any, kind: Any, beside: Iterable[str]) -> Iterator[str]:
    """Keys of a mapping that its type does not know, or misses."""
    if not isinstance(value, Mapping):
        return
    for key in value:
        if not isinstance(key, str):
            yield f"the key {key!r} must be text; put it in quotes"
    config = getattr(kind, "__struct_config__", None)
    if not config:
        yield from _wrong_tag(value, kind)
        return
    declared = msgspec.structs.fields(kind)
    known = [item.encode_name for item in declared]
    known += [config.tag_field] if config.tag_field else []
    for key in value:
        if isinstance(key, str) and key not in known:
            yield f"unknown key '{key}'; nearest valid key: {nearest(key, [*known, *beside])}"
    for item in declared:
        if item.required and item.encode_name not in value:
            yield f"the key '{item.encode_name}' is missing"


def _wrong_tag(value: Mapping[Any, Any], kind: Any) -> Iterator[str]:
    """Of a mapping that could be one of several structs, told apart by a key."""
    options = [getattr(option, "__struct_config__", None) for option in get_args(kind)]
    tags = [config.tag for config in options if config]
    field = next((config.tag_field for config in options if config), None)
    if field is None:
        return
    if field not in value:
        yield f"the key '{field}' is missing: one of {', '.join(tags)}"
    else:
        tag = str(value[field])
        yield f"unknown {field} '{tag}'; nearest: {nearest(tag, tags)} (one of {', '.join(tags)})"


def _children(value: Any, kind: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """What a value consists of: key or position, content, and the type that it should have."""
    if get_origin(kind) in (Literal, Union, UnionType):
        return  # one of some words or types has no parts
    if isinstance(value, Mapping):
        if is_dataclass(kind):
            kinds = get_type_hints(kind, include_extras=True)
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kinds = {item.encode_name: item.type for item in msgspec.structs.fields(kind)}
        elif isinstance(origin := get_origin(kind), type) and issubclass(origin, Mapping):
            kinds = dict.fromkeys(value, get_args(kind)[1])
        else:
            kinds = {}
        yield from ((str(k), v, kinds[k]) for k, v in value.items() if k in kinds)
    elif isinstance(value, list | tuple):
        of = get_args(kind)
        if (len(of) == 2 and of[1] is Ellipsis) or len(of) == 1:
            of = (of[0],) * len(value)
        if len(of) == len(value):
            yield from ((i, *pair) for i, pair in enumerate(zip(value, of, strict=True)))


def _below(path: tuple[str, ...], label: str | int, child: Any) -> tuple[str, ...]:
    """The path of a child: by its key, an item of a list by its name ("row r4") or position."""
    if isinstance(label, str):
        return (*path, label)
    above = path[-1] if path else ""
    if not isinstance(child, Mapping):
        return (*path[:-1], f"{above}[{label}]")
    names = (child.get(key) for key in _NAMES)
    name = next((name for name in names if name and isinstance(name, str)), str(label + 1))
    return (*path[:-1], f"{above.removesuffix('s')} {name}".strip())


def _reason(complaint: str, value: Any, kind: Any) -> tuple[str, str]:
    """What msgspec says of a single value, for people: the value, and what is wrong with it."""
    shown = _SHORT.repr(value)
    if complaint.startswith("Invalid enum value"):
        literal = get_origin(kind) is Literal
        valid = get_args(kind) if literal else [member.value for member in _members(kind)]
        return shown, choice(str(value), list(map(str, valid)))
    if bound := re.fullmatch(r"Expected `\w+` ([<>]=?) (\S+)", complaint):
        return shown, f"must be {_BOUNDS[bound[1]]} {float(bound[2]):g}"
    if length := re.fullmatch(r"Expected `array` of length (\d+).*", complaint):
        return shown, f"must have {length[1]} values"
    if wrong := re.match(r"Expected `([^`]+)`, got", complaint):
        nouns = [_NOUNS.get(name, name) for name in wrong[1].split(" | ")]
        return shown, f"must be {' or '.join(nouns)}"
    return "", complaint


def _members(kind: type[Enum]) -> list[Enum]:
    return list(kind)
