"""Files that a crash, a full disk or a reader at the wrong moment cannot spoil.

A JSON file is replaced atomically and synced: a reader sees the old or the new, never half. Lines
are appended in one write; a last line without its newline is still being written, or torn, and
does not count. JSON has no NaN: non-finite floats are written as null.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from repro.errors import UserError

TAIL_BYTES = 65536
DIGEST = "digest"


def expanded(path: str) -> str:
    """A path with this machine's variables in it: $SLURM_TMPDIR/imagenet, ~/imagenet.

    Raises:
        UserError: a variable is not set here.
    """
    full = os.path.expandvars(of_home(path))
    if "$" in full:
        name = full.partition("$")[2].partition("/")[0].strip("{}")
        raise UserError(f"{path}: {name} is not set on {socket.gethostname()}")
    return full


def of_home(path: str) -> str:
    """~/birds in the user's own home, which a shell leaves as it is behind NAME= and key=."""
    if path == "~" or path.startswith("~/"):
        with suppress(RuntimeError):  # nobody's
            return str(Path(path).expanduser())
    return path


def folder_fault(folder: str) -> str:
    """What is wrong with a folder on this machine; empty if it is there and holds something."""
    try:
        path = Path(expanded(folder))
        return "" if any(path.iterdir()) else f"{path} is empty"
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically: indented, keys sorted, synced."""
    text = json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False)
    replace_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def json_line(value: dict[str, Any]) -> str:
    return json.dumps(_finite(value), allow_nan=False) + "\n"


def append_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """What a kill left torn at the end stays a line by itself."""
    torn = "\n" if _is_torn(path) else ""
    append_text(path, torn + "".join(json_line(line) for line in lines))


def _is_torn(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    return False


def append_text(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The content; None if there is no such file.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        return cast(dict[str, Any], json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise UserError(f"{path}: not valid JSON ({error})") from None


def read_object(path: Path, of: str = "") -> dict[str, Any] | None:
    """As `read_json`, of a file that has keys; a digest in it is checked, and left out.

    Args:
        of: whose it has to be, where its digest says so: those of earlier versions do not.

    Raises:
        UserError: it cannot be read, is no JSON object, or another one than was written.
    """
    content = read_json(path)
    if content is None:
        return None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged: not a JSON object")
    written = content.pop(DIGEST, None)
    if written is not None and written not in (_digest(content, of), _digest(content)):
        raise UserError(f"{path}: damaged: not what was written, by its digest")
    return content


def with_digest(value: dict[str, Any], of: str = "") -> dict[str, Any]:
    """An object as `read_object` can check it, in the place of nobody but `of`."""
    return value | {DIGEST: _digest(value, of)}


def _digest(value: dict[str, Any], of: str = "") -> str:
    content = {key: item for key, item in value.items() if key != DIGEST}
    return digest_of(of.encode() + json.dumps(_finite(content), sort_keys=True).encode())


def file_digest(path: Path) -> str:
    """The first 12 hexadecimal digits of a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def read_tail(path: Path) -> str:
    """The end of a text file that may be large and growing; it may begin inside a line."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return file.read().decode(errors="replace")


def whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that are JSON objects, and how many others there are, but for a torn last one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    values = []
    for line in lines:
        with suppress(ValueError):  # of JSON, or of UTF-8
            value = json.loads(line)
            if isinstance(value, dict):
                values.append(value)
    return values, len(lines) - len(values)


def tail(path: Path) -> list[str]:
    """The end of a text file, by lines; empty if there is none."""
    try:
        return read_tail(path).splitlines()
    except OSError:
        return []
