"""Answers that take long to find and never change, kept in the user's cache folder by key.

Only a cache: a file that is missing, damaged, of another version or not to be written costs time
and nothing else. Answers lie in one file for each name and digest of what they rest on (files,
code, versions of packages), so that a change of any of it asks anew; and with a digest of
themselves, which those of earlier versions lack. The newest `MOST` of a file are kept.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

import repro
from repro.files import digest_of, replace_text
from repro.hardware import cache_folder

T = TypeVar("T")
MOST = 10_000
KEPT = 4  # files of one name, of as many states of what they rest on
PATIENCE = 60.0  # seconds to wait for a lock


class Answers:
    """The answers to one kind of question; they are written when the process ends.

    Args:
        state: `digest` of what they rest on; empty for answers that outlive every change of it.
    """

    def __init__(self, name: str, state: str = "") -> None:
        self.name = name
        self.stem = f"{name}-{state}" if state else name
        self._known: dict[str, msgspec.Raw] | None = None
        self._learned: dict[str, msgspec.Raw] = {}
        self._patience = PATIENCE
        atexit.register(self.save)

    def __contains__(self, key: str) -> bool:
        return key in self._all()

    def get(self, key: str, kind: Any, make: Callable[[], T]) -> T:
        """The kept answer if it is of this kind, else `make()`, through the file's format alike: a
        new object at every call.
        """
        with suppress(KeyError, msgspec.MsgspecError):
            kept: T = msgspec.json.decode(self._all()[key], type=kind)
            return kept
        made = msgspec.Raw(msgspec.json.encode(make()))
        self._all()[key] = self._learned[key] = made
        answer: T = msgspec.json.decode(made, type=kind)
        return answer

    def get_for_good(
        self,
        key: str,
        kind: Any,
        make: Callable[[T | None], T],
        settled: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """As `get`, for answers that another call might not give again: one process makes it while
        others wait, and it is written before it is used.

        A process that cannot have the lock for `PATIENCE` seconds (on a shared home it may hang)
        uses what is kept, else what it makes, and keeps nothing.

        Args:
            make: the answer; it is given the kept one, if that is not settled.
            settled: whether a kept answer stays.
        """
        kept: T | None = self._kept(key, kind)  # most often it is there, and nobody need wait
        if kept is not None and settled(kept):
            return kept
        with self._locked() as locked:
            kept = self._kept(key, kind)
            if kept is not None and (settled(kept) or not locked):
                return kept
            made = msgspec.Raw(msgspec.json.encode(make(kept)))
            if locked:
                self._learned[key] = made
                self._write()
        answer: T = msgspec.json.decode(made, type=kind)
        return answer

    def _kept(self, key: str, kind: Any) -> Any:
        """What lies in the file now."""
        self._known = None
        with suppress(KeyError, msgspec.MsgspecError):
            return msgspec.json.decode(self._all()[key], type=kind)
        return None

    def save(self) -> None:
        """Join what was learned to what others may have written meanwhile."""
        if self._learned:
            with self._locked() as locked:
                if locked:
                    self._write()

    def _write(self) -> None:
        if not self._learned:
            return
        with suppress(OSError):
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            joined = list((self._read() | self._learned).items())[-MOST:]
            content = msgspec.json.encode(dict(joined))
            kept = {"digest": msgspec.Raw(self._digest(content)), "answers": msgspec.Raw(content)}
            replace_text(self._file(), msgspec.json.encode(kept).decode())
            if self.stem != self.name:
                for old in _oldest(folder.glob(f"{self.name}-*.json")):
                    old.unlink(missing_ok=True)
        self._learned.clear()

    def _all(self) -> dict[str, msgspec.Raw]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> dict[str, msgspec.Raw]:
        answers = dict[str, msgspec.Raw]
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            found = msgspec.json.decode(self._file().read_bytes(), type=answers)
            if not {"digest", "answers"} & found.keys():
                return found  # of an earlier version
            content = found["answers"]
            if bytes(found["digest"]) == self._digest(bytes(content)):
                return msgspec.json.decode(content, type=answers)
        return {}

    def _digest(self, content: bytes) -> bytes:
        """As JSON, of its name and its answers."""
        return msgspec.json.encode(digest_of(self.stem.encode() + content))

    def _file(self) -> Path:
        return cache_folder() / f"{self.stem}.json"

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Whether the lock is ours; where there is no folder, or there are no locks, each works for
        itself.
        """
        with ExitStack() as stack:
            locked = True
            with suppress(OSError):
                cache_folder().mkdir(parents=True, exist_ok=True)
                file = (cache_folder() / f".{self.name}.lock").open("a")
                locked = _lock(file, self._patience)
                if locked:
                    stack.enter_context(file)
            if not locked:
                self._patience = 0.0  # once is enough
            yield locked


def _lock(file: IO[str], patience: float) -> bool:
    """Whether the lock was to be had. A thread asks for it, which can be left behind if the file
    system never answers; a lock that comes too late is given back.
    """
    answers: list[OSError | None] = []
    deciding, left = threading.Lock(), threading.Event()

    def ask() -> None:
        answer = None
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            answer = error
        with deciding:
            answers.append(answer)
            if left.is_set():
                file.close()

    thread = threading.Thread(target=ask, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # from Python 3.12 on, a process that ends starts none
        return True  # whatever another writes at this very moment is only found again
    thread.join(patience)
    with deciding:
        if not answers:
            left.set()
            return False
    if answers[0] is not None:
        file.close()
        raise answers[0]
    return True


def digest(files: Iterable[Path], code: Iterable[str], packages: Iterable[str]) -> str:
    """Of the content of files, of modules and packages of ours, and of other packages' versions.

    Args:
        code: below the package's folder, e.g. "config" or "harness/plan/cost.py".
    """
    sources = list(files)
    for module in (Path(repro.__file__).parent / name for name in code):
        sources += [module] if module.suffix else sorted(module.rglob("*.py"))
    summary = hashlib.sha256()
    for path in sources:
        summary.update(f"{path.parent.name}/{path.name}\0".encode())
        summary.update(path.read_bytes())
    for name in packages:
        with suppress(PackageNotFoundError):
            summary.update(f"{name} {version(name)}\0".encode())
    return summary.hexdigest()[:16]


def _oldest(files: Iterable[Path]) -> list[Path]:
    return sorted(files, key=lambda path: path.stat().st_mtime)[:-KEPT]
