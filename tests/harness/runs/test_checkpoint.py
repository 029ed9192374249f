"""Nothing already computed is lost: kills, torn files, full disks."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repro.errors import UserError
from repro.harness.runs import checkpoint
from tests.harness import errno_at


def test_the_last_and_the_previous_checkpoint_are_kept(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]
    assert checkpoint.load(tmp_path) == {"step": 3}


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "missing"])
def test_an_unreadable_last_checkpoint_gives_way_to_the_previous(
    damage: str, tmp_path: Path
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, {"step": step, "weights": torch.randn(1000)})
    last = tmp_path / "last.pt"
    content = last.read_bytes()
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes(
            {"truncate": content[: len(content) // 2], "garbage": b"x" * 500, "empty": b""}[damage]
        )
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert state["step"] == 1


@pytest.mark.slow
def test_a_full_disk_leaves_the_earlier_checkpoints_and_says_so(tmp_path: Path) -> None:
    """A process whose files may not exceed 64 KiB stands for a full disk: write() fails."""
    checkpoint.save(tmp_path, {"step": 1})
    program = (
        "import sys, torch; from pathlib import Path; from repro.harness.runs import checkpoint\n"
        "try: checkpoint.save(Path(sys.argv[1]), {'step': 2, 'x': torch.randn(100_000)})\n"
        "except OSError as error: print('OSError', error.errno)"
    )

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.startswith("OSError"), done.stderr[-500:]
    assert checkpoint.load(tmp_path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


CASES = [
    *(("open", error, 1) for error in (errno.EIO, errno.EACCES, errno.ESTALE, errno.EMFILE)),
    *(("read", error, 1) for error in (errno.EIO, errno.ESTALE, errno.ENOMEM, errno.ETIMEDOUT)),
    *(("read", error, 4) for error in (errno.EIO, errno.ESTALE)),
]
READER = """
import json, os, sys
from pathlib import Path
from repro.errors import UserError
from repro.harness.runs import checkpoint
answers = []
for call, error, number in json.loads(sys.argv[2]):
    os.environ |= {"FAULT_CALL": call, "FAULT_ERRNO": str(error), "FAULT_NUMBER": str(number)}
    try:
        found = checkpoint.find(Path(sys.argv[1]))
        answers.append(f"took {found.path} {found.faults}")
    except UserError as told:
        answers.append(str(told))
print(json.dumps(answers))
"""


@pytest.mark.skipif(errno_at.COMPILER is None, reason="no C compiler")
def test_what_cannot_be_read_is_neither_absent_nor_damaged(tmp_path: Path) -> None:
    """The disk, the network or the machine fails at the n-th call for the last checkpoint."""
    for step in (1, 2):
        checkpoint.save(tmp_path, {"step": step, "weights": torch.randn(100_000)})
    injected = errno_at.environment("last.pt", "open", errno.EIO)
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path), json.dumps(CASES)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **injected},
    )
    assert done.returncode == 0, done.stderr[-500:]
    answers = json.loads(done.stdout)
    for (_, error, _), answer in zip(CASES, answers, strict=True):
        assert f"last.pt: cannot be read: {os.strerror(error)}" in answer


def test_a_folder_in_a_checkpoints_place_cannot_be_read(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"step": 1})
    (tmp_path / "last.pt").rename(tmp_path / "previous.pt")
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(UserError, match=r"last\.pt: cannot be read: Is a directory"):
        checkpoint.find(tmp_path)


def test_no_flipped_bit_and_no_cut_is_loaded_as_other_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {"step": 7, "weights": {f"w{i}": torch.randn(40, 8) for i in range(6)}}
    last = checkpoint.save(tmp_path, state)
    content, draw = last.read_bytes(), random.Random(0)
    refused = 0
    for number in range(300):
        damaged = bytearray(content)
        if number < 200:
            damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del damaged[draw.randrange(len(content)) :]
        last.write_bytes(damaged)
        found = checkpoint.find(tmp_path)
        if found.state is None:
            assert found.damaged[last]
            refused += 1
            continue
        assert found.state["step"] == 7
        for name, tensor in state["weights"].items():  # type: ignore[attr-defined]
            assert torch.equal(found.state["weights"][name], tensor), name
    assert refused > 150  # the others are in names, dates and gaps of the zip


def test_what_is_set_aside_is_never_overwritten(tmp_path: Path) -> None:
    for step in range(4):
        checkpoint.save(tmp_path, {"step": step})
        checkpoint.set_all_aside(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"last.pt.aside{number}" for number in (1, 2, 3, 4)]
    assert checkpoint.load(tmp_path) is None
