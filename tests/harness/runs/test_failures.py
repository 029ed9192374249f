"""failure.json: what stands in it, and what is made of files that this version did not write."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from repro.errors import UserError
from repro.harness.runs.failures import (
    Failure,
    FailureKind,
    failure_of_a_rank,
    failure_of_the_dead,
    forget_ranks,
    note_of_rank,
    read_failure,
    told_failure,
    write_failure,
)


@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_is_read_as_it_was_written(tmp_path: Path, kind: FailureKind) -> None:
    file = tmp_path / "failure.json"
    failure = Failure(kind, "it broke", "Traceback ...", "n1", 7)
    write_failure(file, failure)
    assert read_failure(file) == failure
    written = json.loads(file.read_text())
    assert len(written.pop("digest")) == 16
    assert written == {
        "kind": str(kind),
        "line": "it broke",
        "traceback": "Traceback ...",
        "host": "n1",
        "step": 7,
    }


def test_what_fits_is_kept_where_it_was_found(tmp_path: Path) -> None:
    file = tmp_path / "failure.json"
    failure = Failure(FailureKind.out_of_memory, "no room", fits=["resources.accumulate=2"])
    write_failure(file, failure)
    assert json.loads(file.read_text())["fits"] == ["resources.accumulate=2"]
    assert read_failure(file) == failure


def test_no_file_is_no_failure(tmp_path: Path) -> None:
    assert read_failure(tmp_path / "failure.json") is None


def test_a_failure_of_an_older_or_newer_version_is_read(tmp_path: Path) -> None:
    file = tmp_path / "failure.json"
    file.write_text('{"kind": "nan", "line": "the loss is nan", "rank": 1}')
    assert read_failure(file) == Failure(FailureKind.nan, "the loss is nan")
    file.write_text('{"kind": "bit rot", "line": "the disk forgot", "step": 3}')
    assert read_failure(file) == Failure(FailureKind.unknown, "the disk forgot", step=3)


@pytest.mark.parametrize("content", ["{", "[1]", '{"kind": "nan", "step": "three"}'])
def test_a_file_that_tells_of_no_failure_is_named_in_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "failure.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"failure\.json: ") as caught:
        read_failure(file)
    assert "\n" not in str(caught.value)


def test_no_flipped_bit_of_a_failure_is_another_one_and_it_takes_nothing_from_the_run(
    tmp_path: Path,
) -> None:
    file, draw = tmp_path / "failure.json", random.Random(0)
    failure = Failure(FailureKind.nan, "the loss is nan", "Traceback ...", "n1", 7)
    write_failure(file, failure)
    content, named = file.read_bytes(), 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        told = told_failure(file)
        if told != failure:
            assert told is not None
            assert (told.kind, told.step) == (FailureKind.unknown, 0)
            assert told.line.startswith(f"{file}: ")
            named += 1
    assert named > 150


def test_the_dead_are_told_of_by_the_end_of_their_own_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("an earlier attempt\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.writelines(f"step {number}\n" for number in range(30))
    failure = failure_of_the_dead(log, start, -9, step=29)
    assert (failure.kind, failure.step) == (FailureKind.killed, 29)
    assert failure.line == (
        "worker killed by SIGKILL (often for want of memory); last line of its log: step 29"
    )
    assert failure.traceback.splitlines() == [f"step {number}" for number in range(10, 30)]
    assert "gone, exit code 3" in failure_of_the_dead(log, log.stat().st_size, 3, step=0).line


def test_a_worker_that_ends_with_python_s_own_traceback_was_not_killed(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "Traceback (most recent call last):\n  File ...\nAttributeError: no such thing\n"
    )
    failure = failure_of_the_dead(log, 0, 1, step=0)
    assert failure.kind is FailureKind.code
    assert failure.line.endswith("exit code 1; last line of its log: AttributeError: no such thing")
    assert failure_of_the_dead(log, 0, -9, step=0).kind is FailureKind.killed


def test_the_rank_that_failed_first_is_told_of_and_neighbours_that_noticed_its_end_last(
    tmp_path: Path,
) -> None:
    closed = "RuntimeError: [gloo/transport/tcp/pair.cc] Connection closed by peer [10.0.0.2]"
    remote = "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp, ncclRemoteError"
    lines = {3: closed, 12: "KeyError: 'late'", 1: "KeyError: 'head'", 2: remote}
    assert failure_of_a_rank(tmp_path) is None
    for age, (rank, line) in enumerate(lines.items()):
        note_of_rank(tmp_path, rank, Failure(FailureKind.code, line))
        note_of_rank(tmp_path, rank, Failure(FailureKind.killed, "it has spoken already"))
        written = 1000 - age if rank == 1 else 2000 + age
        os.utime(tmp_path / "rendezvous" / f"rank{rank}.failure.json", (written, written))
    first = failure_of_a_rank(tmp_path)
    assert first is not None
    assert first.line == "rank 1: KeyError: 'head'"
    for rank in (1, 12):
        (tmp_path / "rendezvous" / f"rank{rank}.failure.json").unlink()
    only_echoes = failure_of_a_rank(tmp_path)
    assert only_echoes is not None
    assert only_echoes.line == f"rank 3: {closed}"
    forget_ranks(tmp_path)
    assert failure_of_a_rank(tmp_path) is None
