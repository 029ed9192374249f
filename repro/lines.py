"""Lines that are appended to for weeks, each with a check of its own content.

A checked line ends in `, "check": "1a2b3c4d"}`, the CRC-32 of its bytes before that: a flipped bit
is found in the line that it is in, and the other lines stay good. Where one line of a file has a
check all must; files of earlier versions have none, and are believed as they are. How many lines
there should be is for others to know, who wrote them.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.files import TAIL_BYTES, append_text, json_line

Line = dict[str, Any]
_CHECK = re.compile(rb', "check": "(?P<check>[0-9a-f]{8})"\}$')
_LENGTH = len(', "check": "01234567"}')


@dataclass(frozen=True)
class Checked:
    """The whole lines of a file; a torn last one, still being written, does not count.

    Attributes:
        values: of those that are what was written, without their checks.
        faults: what is wrong with the others, by their number from 1.
    """

    values: list[Line]
    faults: Mapping[int, str]


def checked(value: Line) -> str:
    """A line to write, with its end."""
    content = json_line(value)[:-2]
    return f'{content}, "check": "{zlib.crc32(content.encode()):08x}"}}\n'


def append_checked(path: Path, values: Iterable[Line]) -> None:
    append_text(path, "".join(map(checked, values)))


def read_checked(path: Path) -> Checked:
    """Nothing where there is no file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return _judged(content[: content.rfind(b"\n") + 1].split(b"\n")[:-1])


def last_lines(path: Path) -> Checked:
    """Those of a file's end; their numbers count from there. Nothing where none can be read."""
    try:
        with path.open("rb") as file:
            begin = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
            file.seek(begin)
            content = file.read()
    except OSError:
        return Checked([], {})
    lines = content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]
    return _judged(lines[1:] if begin else lines)  # which the seek cut


def _judged(lines: list[bytes]) -> Checked:
    values, faults = [], {}
    must = any(map(_CHECK.search, lines))
    for number, line in enumerate(lines, 1):
        found = _value(line, must)
        if isinstance(found, str):
            faults[number] = found
        else:
            values.append(found)
    return Checked(values, faults)


def _value(line: bytes, must: bool) -> Line | str:
    """What a line says, or what is wrong with it."""
    check = _CHECK.search(line)
    if check:
        content = line[:-_LENGTH]
        if f"{zlib.crc32(content):08x}".encode() != check["check"]:
            return "is damaged: not what was written, by its check"
        line = content + b"}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        return f"is not valid JSON ({error})"
    if not isinstance(value, dict):
        return "is no JSON object"
    return "is damaged: it has lost its check" if must and not check else value
