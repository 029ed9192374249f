"""One holder at a time: by the kernel's lock, and by the lease where that does not reach.

Machines are emulated by processes that give themselves another host name and whose `flock` is
switched off or fails: what file systems do whose locks end at a node, and those that have none.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from repro import locks
from repro.locks import Busy, forget, hold, is_flocked

NO_FLOCK = "def flock(*_): raise OSError(errno.ENOSYS, 'Function not implemented')"
LOCAL_FLOCK = "def flock(*_): pass"  # what another node's lock looks like from here
MACHINE = """
import errno, fcntl, socket, sys, time
from pathlib import Path
{flock}
fcntl.flock = flock
socket.gethostname = lambda: sys.argv[2]
from repro import locks
locks.RENEWED = float(sys.argv[3])
"""
HOLDER = """
with locks.hold(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.readline()
"""
CONTENDER = """
path = Path(sys.argv[1])
while time.time() < float(sys.argv[4]):
    try:
        with locks.hold(path, "busy", patience=0):
            ours = path.with_name("inside")
            ours.touch(exist_ok=False)
            time.sleep(0.002)
            ours.unlink()
            print("in", flush=True)
    except locks.Busy:
        pass
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def on_machine(
    name: str, lock: Path, code: str, flock: str = LOCAL_FLOCK, renewed: float = 0.1, *more: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MACHINE.format(flock=flock) + code, str(lock), name, str(renewed),
         *more],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def held_on(name: str, lock: Path, flock: str = LOCAL_FLOCK) -> Iterator[subprocess.Popen[str]]:
    process = on_machine(name, lock, HOLDER, flock)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def local_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no other machine's lock is seen here."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


@pytest.mark.parametrize("flock", [LOCAL_FLOCK, NO_FLOCK])
def test_a_holder_on_another_machine_excludes_where_flock_does_not(
    lock: Path, monkeypatch: pytest.MonkeyPatch, flock: str
) -> None:
    local_flock(monkeypatch)
    with held_on("node7", lock, flock) as holder:
        with pytest.raises(Busy, match="somebody trains it"), hold(lock, "somebody trains it"):
            pytest.fail("two machines hold one lock")
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        with hold(lock, "its holder let go", patience=20):
            assert len(list(lock.parent.glob("lock.*"))) == 1
    assert list(lock.parent.glob("lock.*")) == []


def test_machines_without_each_others_flock_are_never_inside_together(lock: Path) -> None:
    until = str(time.time() + 4)
    nodes = [on_machine(f"n{i}", lock, CONTENDER, LOCAL_FLOCK, 0.1, until) for i in range(4)]
    said = [node.communicate(timeout=60) for node in nodes]
    assert [error for _, error in said] == [""] * 4  # nobody found "inside" taken
    assert sum(out.count("in") for out, _ in said) > 20


def test_a_killed_holder_counts_until_its_lease_is_stale_and_then_is_replaced(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_flock(monkeypatch)
    with held_on("node7", lock) as holder:
        holder.kill()
        holder.wait()
    with pytest.raises(Busy), hold(lock, "perhaps it lives"):
        pytest.fail("taken over from a process that may live")
    (lease,) = lock.parent.glob("lock.*")
    long_ago = time.time() - locks.STALE - 5
    os.utime(lease, (long_ago, long_ago))
    with hold(lock, "stale"):
        assert [path.name for path in lock.parent.glob("lock.*")] == ["lock.2"]


def test_a_killed_holder_of_this_machine_is_replaced_at_once(lock: Path) -> None:
    code = "import sys; from pathlib import Path; from repro import locks\n" + HOLDER
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert is_flocked(lock)
    process.kill()
    process.communicate()
    assert len(list(lock.parent.glob("lock.*"))) == 1
    with hold(lock, "busy"):
        pass
    assert not is_flocked(lock)


def test_what_a_dead_worker_left_is_forgotten_for_other_machines(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = lock.with_name("lock.1")
    lease.write_text(json.dumps({"holder": [locks.machine(), 77], "token": "t"}))
    other = lock.with_name("lock.2")
    other.write_text(json.dumps({"holder": ["elsewhere", 77], "token": "u"}))
    forget(lock, 77)
    assert not lease.exists()
    assert other.exists()


def test_who_stood_still_and_was_taken_over_ends_before_another_word(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_on("node7", lock) as holder:
        (lease,) = lock.parent.glob("lock.*")
        lease.unlink()  # as who takes over does
        assert holder.wait(20) == locks.TAKEN_OVER
        assert holder.stderr is not None
        assert "another has taken over" in holder.stderr.read()


def test_a_folder_that_is_removed_takes_nobody_along(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with held_on("node7", folder / "lock") as holder:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        with pytest.raises(subprocess.TimeoutExpired):
            holder.wait(1)


def test_a_lease_is_renewed_while_its_holder_lives(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEWED", 0.05)
    with hold(lock, "busy"):
        (lease,) = lock.parent.glob("lock.*")
        os.utime(lease, (1000, 1000))
        deadline = time.monotonic() + 20
        while lease.stat().st_mtime == 1000:
            assert time.monotonic() < deadline, "no sign of life"
            time.sleep(0.02)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_flock_has_the_lease(
    lock: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold(lock, "busy"):
        assert is_flocked(lock)
        with pytest.raises(Busy), hold(lock, "busy", patience=0):
            pytest.fail("two processes hold one lock")
    assert not is_flocked(lock)
