"""Nothing already computed is lost: kills, torn files, full disks."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repro.harness.runs import checkpoint


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
