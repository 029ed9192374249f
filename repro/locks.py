"""A lock that one process has at a time, on one machine or on many.

It is made of two, and a holder has both. The kernel drops a `flock` at the moment its process dies;
but some file systems keep it to one node (Lustre's localflock, NFS's local_lock), and some have
none. So its holder announces itself in a lease beside it, a file made exclusively, and renews the
file's time while it lives. A lease of another machine counts until it is STALE seconds old; one of
this machine ends with its flock.

`lock` is what is flocked; `lock.1`, `lock.2`, ... are leases. Who takes over from a dead holder
makes the next number, which only one process can, and then looks whether another lease lives: each
announces itself before it looks, so of two at most one goes on (Lamport's bakery). A holder that
stood still for so long that it was taken over ends itself before it writes another word.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from repro.background import meanwhile

PATIENCE = 0.5  # seconds; a reader that asks `is_flocked` holds the lock for an instant
RENEWED = 10.0  # seconds between two signs of life
STALE = 60.0  # seconds after which the lease of another machine is nobody's
TAKEN_OVER = 3  # exit code
WITHOUT_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class Busy(Exception):
    """Another live process holds this lock."""


@contextmanager
def hold(
    lock: Path,
    complaint: str,
    patience: float = PATIENCE,
    wait: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold a lock file; raises Busy with `complaint` if another live process does.

    Args:
        patience: for how many seconds to try.
        wait: called once, if the lock is not to be had at once.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lease = _acquire(handle, lock, patience, wait)
        if lease is None:
            raise Busy(complaint)
        with lease.renewed():
            yield
    finally:
        os.close(handle)


def is_flocked(lock: Path) -> bool:
    """Whether a process of this machine holds it, or one of any where `flock` reaches that far."""
    try:
        handle = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if _flock(handle, fcntl.LOCK_SH) is None:
            return any(not lease.is_stale(time.time()) for lease in _leases(lock))
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def forget(lock: Path, pid: int) -> None:
    """Take away what a process of this machine left that is known to have died."""
    for lease in _leases(lock):
        if lease.holder == [machine(), pid]:
            lease.path.unlink(missing_ok=True)


@cache
def machine() -> str:
    """This machine since it was started: host names alone repeat among containers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}".strip()


def _acquire(
    handle: int, lock: Path, patience: float, wait: Callable[[], None] | None
) -> _Lease | None:
    begun = time.monotonic()
    while True:
        with suppress(BlockingIOError):
            excluded = _flock(handle, fcntl.LOCK_EX) is not None
            if lease := _take_lease(handle, lock, excluded):
                return lease
            if excluded:
                fcntl.flock(handle, fcntl.LOCK_UN)
        if wait:
            wait()
            wait = None
        waited = time.monotonic() - begun
        if waited > patience:
            return None
        time.sleep(0.02 if waited < 1 else 0.5)


def _flock(handle: int, kind: int) -> bool | None:
    """True; or None where the file system has no such locks; raises BlockingIOError if not free."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in WITHOUT_FLOCK:
            return None
        raise
    return True


@dataclass(frozen=True)
class _Lease:
    path: Path
    holder: list[object]  # [machine, pid]; empty while it is being written
    token: str
    renewed_at: float

    @property
    def number(self) -> int:
        return int(self.path.suffix[1:])

    def is_stale(self, now: float) -> bool:
        return now - self.renewed_at > STALE

    def is_mine(self) -> bool:
        now = _read(self.path)
        return now is not None and now.token == self.token

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renewed by a thread, then removed."""

        def renew(over: threading.Event) -> None:
            while not over.wait(RENEWED):
                with suppress(OSError):  # a full disk, a file server that is away for a while
                    if self.is_mine():
                        os.utime(self.path)
                    # A folder that was removed takes its lease along, and nobody has taken over.
                    # Asked twice: a file server may lose a file from sight for a moment.
                    elif not over.wait(1.0) and not self.is_mine() and self.path.parent.is_dir():
                        _end_taken_over(self.path)

        try:
            with meanwhile(renew):
                yield
        finally:
            with suppress(OSError):
                if self.is_mine():
                    self.path.unlink()


def _end_taken_over(lease: Path) -> None:
    text = f"{lease}: this process stood still, and another has taken over; it writes nothing more"
    print(text, file=sys.stderr, flush=True)
    os._exit(TAKEN_OVER)


def _take_lease(handle: int, lock: Path, excluded: bool) -> _Lease | None:
    """A lease of this process; None if another's lives.

    Args:
        excluded: whether the kernel says that no other process of this machine holds the lock.
    """

    def lives(lease: _Lease, now: float) -> bool:
        gone = excluded and lease.holder[:1] == [machine()]
        return not gone and not lease.is_stale(now)

    others = _leases(lock)
    if others:
        os.utime(handle)  # tells the time by the file system's clock, which also stamps the leases
        now = os.fstat(handle).st_mtime
        if any(lives(lease, now) for lease in others):
            return None
    number = max((lease.number for lease in others), default=0) + 1
    mine = _announce(lock.with_name(f"{lock.name}.{number}"))
    if mine is None:
        return None
    now = mine.renewed_at
    if any(lives(lease, now) for lease in _leases(lock) if lease.token != mine.token):
        mine.path.unlink(missing_ok=True)
        return None
    for lease in others:
        with suppress(OSError):  # of a colleague, in a folder where only the owner may remove
            lease.path.unlink()
    return mine


def _announce(path: Path) -> _Lease | None:
    """The lease made there; None if another process was faster."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    holder: list[object] = [machine(), os.getpid()]
    token = secrets.token_hex(8)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({"holder": holder, "token": token}, file)
    except OSError:  # a full disk
        path.unlink(missing_ok=True)
        raise
    return _Lease(path, holder, token, path.stat().st_mtime)


def _leases(lock: Path) -> list[_Lease]:
    files = (file for file in lock.parent.glob(f"{lock.name}.*") if file.suffix[1:].isdigit())
    return [lease for file in files if (lease := _read(file))]


def _read(path: Path) -> _Lease | None:
    """Opened, so that a network file system does not answer from what it remembers."""
    try:
        with path.open() as file:
            renewed_at = os.fstat(file.fileno()).st_mtime
            content = json.loads(file.read() or "{}")
    except FileNotFoundError:
        return None
    except json.JSONDecodeError:  # half of it is there
        content = {}
    return _Lease(path, content.get("holder", []), content.get("token", ""), renewed_at)
