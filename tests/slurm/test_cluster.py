"""The cluster of these tests leaves nothing behind, however its owner ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.cluster import PATIENCE, processes_of


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_no_process_is_left_whether_its_owner_ends_or_is_killed(end: str) -> None:
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/var/tmp") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "tests.slurm.cluster", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
            try:
                assert owner.stdout is not None
                assert owner.stdout.readline() == f"export SLURM_CONF={name}/slurm.conf\n"
                assert len(processes_of(folder)) >= 6  # the daemons
            finally:
                getattr(owner, end)()
        wait_for(lambda: not processes_of(folder))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)
