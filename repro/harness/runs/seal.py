"""Seals of published files: every line carries a digest of itself and of the line before.

A sealed line ends in `"previous": DIGEST, "digest": DIGEST}`: the digest of the line before (empty
in the first), and the SHA-256 of the line's own bytes before `, "digest"`. Who edits a line breaks
its digest; who makes the digest anew, moves or removes a line breaks the link to the line after.
The last digest stands in the folder's README.md, so that lines that are missing at the end, or a
chain made anew from some line on, show, too. Files of earlier versions have no seals; publishing
seals them, and so does

    python -m repro.harness.runs.seal FILE...
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.files import append_text, json_line, replace_text

_SEAL = re.compile(
    rb', "previous": "(?P<previous>[0-9a-f]{64}|)", "digest": "(?P<digest>[0-9a-f]{64})"\}$'
)
PAGE = "README.md"  # of a published folder; it names the last digest of each file
_LENGTH = 200  # bytes at a line's end in which its seal lies


def lines_of(path: Path) -> list[bytes]:
    """Lines without their ends; none where there is no file. A torn last one does not count."""
    content = b""
    with suppress(FileNotFoundError):
        content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1].splitlines()


def last_digest(lines: Sequence[bytes]) -> str:
    """Of the last line; empty where there is none, or it has no seal."""
    seal = _seal_of(lines[-1]) if lines else None
    return seal["digest"].decode() if seal else ""


def end_of(path: Path) -> str:
    """How the folder's page names the end of a file; empty where the file has no seals."""
    digest = last_digest(lines_of(path))
    return f"{path.name} `{digest}`" if digest else ""


def lost(path: Path, lines: Sequence[bytes]) -> str:
    """Why a file is not the one that the folder's page tells of; empty where it is, also with lines
    that joined later, and where no page names an end.
    """
    page = b""
    with suppress(OSError):
        page = path.with_name(PAGE).read_bytes()
    named = re.search(re.escape(path.name).encode() + rb" `([0-9a-f]{64})`", page)
    seals = map(_seal_of, lines)
    if named is None or any(seal and seal["digest"] == named[1] for seal in seals):
        return ""
    return (
        f"lines are lost: none has the digest {named[1].decode()[:12]}..., with which {PAGE} says "
        "that it ended; put back what was there"
    )


def check_end(path: Path) -> None:
    """Raises: UserError: lines of a file are lost."""
    if why := lost(path, lines_of(path)):
        raise UserError(f"{path}: {why}")


def is_sealed(lines: Sequence[bytes]) -> bool:
    """Whether any line has a seal: then every line must."""
    return any(map(_seal_of, lines))


def broken(lines: Sequence[bytes]) -> Mapping[int, str]:
    """What is wrong with the seals of a file, by line number from 1; nothing in a file without.

    Where a line was sealed after another than stands before it, the one before is to blame: the
    last that nobody vouches for.
    """
    why: dict[int, str] = {}
    seals = list(map(_seal_of, lines))
    if not any(seals):
        return why
    before, whole = 0, True  # number of the last sealed line; whether no unsealed one came since
    for number, (line, seal) in enumerate(zip(lines, seals, strict=True), 1):
        if seal is None:
            why[number] = "it has no digest, though its file is sealed: added or edited by hand"
            whole = False
            continue
        known = seals[before - 1] if before else None
        expected = known["digest"] if known else b""
        if seal["previous"] != expected and whole:
            after = "the line after it" if before else "it"
            why.setdefault(
                before or number,
                f"{after} was sealed after another line: what stood there was edited, moved or "
                "removed",
            )
        if _digest(line[: -len(_ending(seal["digest"].decode()))]) != seal["digest"].decode():
            why[number] = "its digest is not that of its content: edited by hand"
        before, whole = number, True
    return why


def sealed(contents: Iterable[Mapping[str, Any]], previous: str) -> Iterator[str]:
    """Lines to append to a file whose last digest is `previous`."""
    for content in contents:
        text, previous = _with_seal(json_line(dict(content)).encode().strip(), previous)
        yield text


def append(path: Path, contents: Sequence[Mapping[str, Any]]) -> None:
    """Append lines with their seals; what stands in the file without seals gets them first.

    Raises:
        UserError: lines there have broken seals or are lost; nothing can be told to follow them.
    """
    check_end(path)
    if not contents:
        return
    seal_file(path)
    append_text(path, "".join(sealed(contents, last_digest(lines_of(path)))))


def seal_file(path: Path) -> bool:
    """Seal a file that has no seals; whether anything was done. Its lines keep their content.

    Raises:
        UserError: seals that are there are broken, or a line is no JSON object.
    """
    lines = lines_of(path)
    for number, why in broken(lines).items():
        raise UserError(f"{path}: line {number}: {why}; repro verify")
    if is_sealed(lines) or not lines:
        return False
    text, previous = "", ""
    for number, line in enumerate(lines, 1):
        if not (line.startswith(b'{"') and line.endswith(b"}")):
            raise UserError(f"{path}: line {number} is no JSON object")
        one, previous = _with_seal(line, previous)
        text += one
    replace_text(path, text)
    return True


def _with_seal(line: bytes, previous: str) -> tuple[str, str]:
    """A line with its seal, and its digest."""
    content = line[:-1] + f', "previous": "{previous}"'.encode()
    digest = _digest(content)
    return f"{content.decode()}{_ending(digest)}\n", digest


def _ending(digest: str) -> str:
    return f', "digest": "{digest}"}}'


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _seal_of(line: bytes) -> re.Match[bytes] | None:
    return _SEAL.search(line[-_LENGTH:])


def main(files: Sequence[str]) -> None:
    for name in files:
        path = Path(name)
        done = seal_file(path)
        lines = lines_of(path)
        what = "sealed" if done else "sealed before"
        print(f"{path}: {len(lines)} lines {what}, the last digest {last_digest(lines)}")


if __name__ == "__main__":
    main(sys.argv[1:])
