"""Published files as they are read: what their lines say, each with its place, and what is refused.

A bad line is refused alone, with the reason; whoever reads the others goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from repro.harness.runs.records import PublishedEvaluation, Record, Replication, decoded
from repro.harness.runs.seal import broken, lines_of, lost

Line = TypeVar("Line", Record, PublishedEvaluation, Replication)


@dataclass(frozen=True)
class Refusal:
    """A record or an evaluation that is no evidence, and why; `where` is a line or a run folder.

    `expected`: it was never meant to be evidence, or its run was not, so nothing is wrong with it.
    """

    where: str
    id: str
    why: str
    expected: bool = False

    def __str__(self) -> str:
        return f"{self.where}{f' ({self.id})' if self.id else ''}: {self.why}"


@dataclass(frozen=True)
class Candidate(Generic[Line]):
    """A line that may be believed."""

    where: str
    line: Line


@dataclass(frozen=True)
class Read(Generic[Line]):
    candidates: list[Candidate[Line]]
    refused: list[Refusal]


def read(path: Path, kind: type[Line]) -> Read[Line]:
    """The lines of a file that holds such lines; none where there is no file."""
    lines = lines_of(path)
    seals = broken(lines)
    found: Read[Line] = Read([], [])
    if why := lost(path, lines):
        found.refused.append(Refusal(str(path), "", why))
    for number, line in enumerate(decoded(lines, kind), 1):
        where = f"{path}: line {number}"
        if isinstance(line, str):
            found.refused.append(Refusal(where, _id_in(lines[number - 1]), f"it {line}"))
        elif number in seals:
            identity = line.id if isinstance(line, Record) else line.run
            found.refused.append(Refusal(where, identity, seals[number]))
        else:
            found.candidates.append(Candidate(where, line))
    return found


def readable(path: Path) -> list[Record]:
    """Those lines of a records.jsonl that are records, whether they may be believed or not."""
    lines = decoded(lines_of(path), Record)
    return [line for line in lines if not isinstance(line, str)]


def published_runs(published: Path) -> dict[str, list[Record]]:
    """Of every scale that has any, the runs as they were published."""
    files = sorted(published.glob("*/records.jsonl"))
    return {file.parent.name: runs for file in files if (runs := readable(file))}


class _Named(msgspec.Struct):
    id: str = ""
    run: str = ""


def _id_in(line: bytes) -> str:
    """What a line that is no record calls itself."""
    try:
        named = msgspec.json.decode(line, type=_Named)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return named.id or named.run
